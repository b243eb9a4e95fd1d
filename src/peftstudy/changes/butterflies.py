"""Orthogonal matrices as products of sparse factors, like the butterflies of fast transforms (Liu et al., 2024)."""

import torch
from torch import Tensor, nn


class Butterfly(nn.Module):
    """weight @ rotation, the rotation being a product of factors; the identity at the start.

    Factor number l turns blocks of `block` inputs: of two runs of block / 2 neighbours each, 2^l runs apart.
    inputs: a multiple of block * 2^(factors - 1), so that every run has its partner.
    """

    def __init__(self, inputs: int, block: int, factors: int) -> None:
        super().__init__()
        self.block = block
        self.angles = nn.Parameter(torch.zeros(factors, inputs // block, block * (block - 1) // 2))
        self.register_buffer("upper", torch.triu_indices(block, block, 1), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        turned = weight
        for level, angles in enumerate(self.angles):
            pairs = (len(weight), -1, 2, 2**level, self.block // 2)
            blocks = turned.reshape(pairs).transpose(2, 3).reshape(len(weight), -1, self.block)
            blocks = torch.einsum("okb,kbc->okc", blocks, self._rotations(angles).to(weight.dtype))
            swapped = (len(weight), -1, 2**level, 2, self.block // 2)
            turned = blocks.reshape(swapped).transpose(2, 3).reshape(weight.shape)
        return turned

    def _rotations(self, angles: Tensor) -> Tensor:
        """Return the Cayley transforms of skew-symmetric matrices, shape (blocks, block, block)."""
        skew = angles.new_zeros(len(angles), self.block, self.block)
        skew[:, self.upper[0], self.upper[1]] = angles
        skew = skew - skew.transpose(1, 2)
        identity = torch.eye(self.block, device=angles.device)
        return torch.linalg.solve(identity + skew, identity - skew, left=False)

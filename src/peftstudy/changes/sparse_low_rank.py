"""Sparse plus low-rank: decompositions of weight matrices, and updates of that form (Chen et al., 2023)."""

import math

import torch
from torch import Tensor, nn

ROUNDS = 10


def decompose(matrix: Tensor, rank: int, entries: int, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Return a low-rank and a sparse matrix whose sum is near `matrix`.

    They are fitted in turns, each to what the other leaves: the best of that rank by its singular values,
    and the largest so many entries. The error never grows (GoDec; Zhou and Tao, 2011).
    """
    sparse = torch.zeros_like(matrix)
    for _ in range(rounds):
        left, values, right = torch.linalg.svd(matrix - sparse, full_matrices=False)
        low = (left[:, :rank] * values[:rank]) @ right[:rank]
        rest = (matrix - low).flatten()
        sparse = torch.zeros_like(rest)
        kept = torch.argsort(rest.abs(), descending=True, stable=True)[:entries]
        sparse[kept] = rest[kept]
        sparse = sparse.view_as(matrix)
    return low, sparse


class SparseLowRank(nn.Module):
    """weight + scale * up @ down + values at the places of the sparse part of the weight; zero at the start."""

    def __init__(self, weight: Tensor, rank: int, scale: float, entries: int) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.values = nn.Parameter(weight.new_zeros(entries))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as LoRA's
        places = torch.argsort(decompose(weight, rank, entries)[1].abs().flatten(), descending=True, stable=True)
        self.register_buffer("places", places[:entries].sort().values, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        updated = weight + self.scale * (self.up @ self.down).to(weight.dtype)
        return updated.flatten().index_add(0, self.places, self.values.to(weight.dtype)).view_as(weight)

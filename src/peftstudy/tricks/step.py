"""What wrapped modules know of the step that is under way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from peftstudy.tricks.dropout import Masks
from peftstudy.tricks.packing import Layout


@dataclass(frozen=True)
class Packed:
    """The packed batch that is on its way through the model.

    layout: where its texts are. read: the places of the tokens that the head reads, shape (tokens read,).
    firsts: whether that is one token of each text: the first, or of a decoder's the last.
    """

    layout: Layout
    read: Tensor
    firsts: bool = False


@dataclass
class Step:
    """The step under way: where its dropout masks come from, and its packed batch.

    is_fused: whether attention of packed batches is computed in one pass. batch: None while no packed batch is on its
    way; then modules do what the library has them do.
    """

    masks: Masks
    is_fused: bool = False
    batch: Packed | None = None

    @contextmanager
    def carrying(self, batch: Packed | None) -> Iterator[None]:
        """Let the modules know which batch is on its way through the model."""
        before, self.batch = self.batch, batch
        try:
            yield
        finally:
            self.batch = before

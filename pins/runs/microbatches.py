"""Rows of a step cut into parts, and each part among ranks; rows that are evaluated together."""

from collections.abc import Sequence

from pins.distributed.process_group import Group
from pins.models.batches import Batch
from pins.runs.settings import Settings

# in a batch of evaluation, unless one of training has more: without gradients there is room for it,
# and with long rows the logits of a language model take it up (both numbers are heuristics)
EVALUATION_ROWS, EVALUATION_TOKENS = 64, 64 * 128


def parts(batch: Batch, number: int) -> list[Batch]:
    """A batch cut into `number` parts of about equal size (fewer, where it has fewer rows)."""
    cut = {name: tensor.tensor_split(number) for name, tensor in batch.items()}
    return [
        {name: tensors[at] for name, tensors in cut.items()}
        for at in range(min(number, len(batch["input_ids"])))
    ]


def share(whole: Sequence[Batch], group: Group) -> Sequence[Batch]:
    """Of each part of a step, the rows of this rank; a part of which it has none is left out.

    Where rows are left over, they go to other ranks from part to part.
    """
    if group.size == 1:
        return whole
    own = []
    for number, part in enumerate(whole):
        cut = parts(part, group.size)
        place = (group.rank + number) % group.size
        own += cut[place : place + 1]
    return own


def evaluation_rows(settings: Settings) -> int:
    """How many rows are evaluated together: about what the memory of a training step has room for.

    Args:
        settings: resolved.
    """
    assert settings.batch_size is not None
    assert settings.max_length is not None
    training = -(-settings.batch_size // settings.accumulation)
    return max(training, min(EVALUATION_ROWS, EVALUATION_TOKENS // settings.max_length))

"""Microbatches of a training step, the rows of each rank, and the batch size of an evaluation."""

from collections.abc import Sequence

from pins.distributed.process_group import Group
from pins.models.batches import Batch
from pins.runs.settings import Settings

# heuristics: an evaluation keeps no activations, so its batches can be larger than a training
# step's; with long rows, the logits of a language model fill the memory
EVALUATION_ROWS, EVALUATION_TOKENS = 64, 64 * 128


def microbatches(batch: Batch, number: int) -> list[Batch]:
    """A batch cut into `number` microbatches of about equal size; fewer if it has fewer rows."""
    number = min(number, len(batch["input_ids"]))
    cut = {name: tensor.tensor_split(number) for name, tensor in batch.items()}
    return [{name: tensors[at] for name, tensors in cut.items()} for at in range(number)]


def microbatches_of_rank(whole: Sequence[Batch], group: Group) -> Sequence[Batch]:
    """The rows of this rank in each microbatch of a step; microbatches without any are left out.

    The ranks that get one row more than others change from microbatch to microbatch.
    """
    if group.size == 1:
        return whole
    own = []
    for number, microbatch in enumerate(whole):
        index = (group.rank + number) % group.size
        own += microbatches(microbatch, group.size)[index : index + 1]
    return own


def evaluation_rows(settings: Settings) -> int:
    """The batch size of an evaluation: at least a training microbatch.

    Args:
        settings: resolved.
    """
    assert settings.batch_size is not None
    assert settings.max_length is not None
    training = -(-settings.batch_size // settings.accumulation)
    return max(training, min(EVALUATION_ROWS, EVALUATION_TOKENS // settings.max_length))

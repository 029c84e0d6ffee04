"""The loss of a model's predictions, summed, so that batches of any make-up give the same mean."""

from typing import Any

from torch.nn.functional import cross_entropy

from pins.batches import Batch
from pins.heads import Distributions, Head


def summed_loss(head: Head, output: Any, batch: Batch) -> tuple[float, int]:
    """Σ −log p(target) over the predictions that `batch` has a target for, and their number.

    Args:
        head: other than regression.
        output: of the model, for that batch.
        batch: with its targets.
    """
    predicted = head.rows(output, batch)
    assert isinstance(predicted, Distributions)
    loss = cross_entropy(predicted.logits.float(), predicted.targets, reduction="sum")
    return loss.item(), len(predicted.targets)

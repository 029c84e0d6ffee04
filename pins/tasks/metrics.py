"""The official metrics of classified and scored texts, by name; all from torchmetrics."""

from collections.abc import Callable, Mapping

from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_accuracy,
    multiclass_matthews_corrcoef,
)
from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

Metric = Callable[[Tensor, Tensor], Tensor]  # predictions (N,), targets (N,) → a number


def accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """The ratio of right answers."""
    classes = int(max(predictions.max(), targets.max())) + 1
    return multiclass_accuracy(predictions, targets, num_classes=max(classes, 2), average="micro")


def f1(predictions: Tensor, targets: Tensor) -> Tensor:
    """F1 of class 1 of two."""
    return binary_f1_score(predictions, targets)


def matthews(predictions: Tensor, targets: Tensor) -> Tensor:
    """Matthews' correlation of two classes, in [−1, 1]; 0 where one class is never predicted."""
    return multiclass_matthews_corrcoef(predictions, targets, num_classes=2)


def pearson(predictions: Tensor, targets: Tensor) -> Tensor:
    """Pearson's correlation, in [−1, 1]."""
    return pearson_corrcoef(predictions.double(), targets.double())


def spearman(predictions: Tensor, targets: Tensor) -> Tensor:
    """Spearman's rank correlation, in [−1, 1]."""
    return spearman_corrcoef(predictions.double(), targets.double())


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}

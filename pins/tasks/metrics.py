"""The official metrics of text classification and scoring, by name.

torchmetrics is imported where it is used: it takes seconds.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]  # predictions (N,), targets (N,) → a number


def accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """The ratio of right predictions."""
    from torchmetrics.functional.classification import multiclass_accuracy

    classes = int(max(predictions.max(), targets.max())) + 1
    return multiclass_accuracy(predictions, targets, num_classes=max(classes, 2), average="micro")


def f1(predictions: Tensor, targets: Tensor) -> Tensor:
    """F1 of class 1 of two; 0 if neither side has it."""
    from torchmetrics.functional.classification import binary_f1_score

    return binary_f1_score(predictions, targets)


def matthews(predictions: Tensor, targets: Tensor) -> Tensor:
    """Matthews' correlation of two classes, in [−1, 1]; 0 if one side has only one class.

    It is Pearson's correlation of the zeros and ones. torchmetrics differs for a model that always
    predicts one class: it gives 0.28 for ten rows, seven of them of that class.
    """
    return pearson(predictions, targets)


def pearson(predictions: Tensor, targets: Tensor) -> Tensor:
    """Pearson's correlation, in [−1, 1].

    0 if one side is constant, NaN if one has a value that is not finite.
    """
    from torchmetrics.functional.regression import pearson_corrcoef

    if not (predictions.isfinite().all() and targets.isfinite().all()):
        return torch.tensor(torch.nan, dtype=torch.float64)
    if _constant(predictions) or _constant(targets):
        return torch.zeros((), dtype=torch.float64)
    return pearson_corrcoef(predictions.double(), targets.double())


def spearman(predictions: Tensor, targets: Tensor) -> Tensor:
    """Spearman's rank correlation: Pearson's correlation of the ranks; ties share their mean."""
    if not (predictions.isfinite().all() and targets.isfinite().all()):
        return torch.tensor(torch.nan, dtype=torch.float64)
    return pearson(_ranks(predictions), _ranks(targets))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def _ranks(values: Tensor) -> Tensor:
    """The rank of each value, from 1; equal values get their mean rank."""
    _, at, count = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: Tensor = (count.cumsum(0) - (count - 1) / 2)[at]
    return ranks


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}

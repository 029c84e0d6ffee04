"""Models inside other modules: what `torch.compile` and data-parallel training wrap them in."""

from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself: parameters of a wrapper have names that nobody gave them.

    `torch.compile` keeps the model as `_orig_mod`, DistributedDataParallel and DataParallel as
    `module`.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner

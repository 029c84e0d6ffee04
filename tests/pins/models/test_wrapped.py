"""The model inside its wrappers, by the names that it has itself."""

from typing import Any

import torch
from torch import nn

from pins.models.parameters import prunable_parameters, unwrapped
from tests.pins.networks import perceptron


class Holder(nn.Module):
    """A network with a part called `module`, which is no wrapper."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.module = part


def test_a_model_is_found_inside_any_number_of_wrappers() -> None:
    model = perceptron()
    parallel = nn.DataParallel(model)
    compiled: Any = torch.compile(model, backend="eager")
    both: Any = (nn.DataParallel(compiled), torch.compile(parallel, backend="eager"))
    for wrapped in (model, compiled, parallel, *both):
        assert unwrapped(wrapped) is model


def test_a_part_of_that_name_is_no_wrapped_model() -> None:
    holder = Holder(perceptron())
    assert unwrapped(holder) is holder
    assert unwrapped(nn.DataParallel(holder)) is holder


def test_the_names_of_parameters_are_those_that_somebody_gave() -> None:
    model = perceptron()
    names = list(prunable_parameters(model).parameters)
    wrapped: Any = torch.compile(nn.DataParallel(model), backend="eager")
    assert list(prunable_parameters(wrapped).parameters) == names
    assert set(names) <= dict(model.named_parameters()).keys()
    # the wrapper's own are others
    assert not set(names) & dict(wrapped.named_parameters()).keys()

"""The optimiser of a run: which parameters decay, and by how much."""

import pytest
import torch
from torch import nn

from pins.runs.optimizer import make_optimizer
from pins.runs.settings import Settings

RATE, DECAY = 0.5, 0.1


def decayed(decay_all: bool, optimizer: str) -> dict[str, bool]:
    """Which parameters a step without gradients makes smaller."""
    model = nn.ModuleDict({"dense": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    wanted = Settings(
        learning_rate=RATE, weight_decay=DECAY, decay_all=decay_all, optimizer=optimizer
    )
    make_optimizer(model, wanted).step()
    values = {
        name: float(parameter.detach().flatten()[0]) for name, parameter in model.named_parameters()
    }
    return {name: value < 1 for name, value in values.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_leaves_biases_and_norms_alone_unless_asked_for(optimizer: str) -> None:
    found = decayed(False, optimizer)
    assert [name for name, smaller in found.items() if smaller] == ["dense.weight"]
    assert all(decayed(True, optimizer).values())

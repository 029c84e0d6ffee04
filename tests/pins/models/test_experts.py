"""Experts with a layer for each matrix compute what those of transformers do."""

from typing import Any

import pytest
import torch
from torch import nn

from pins.errors import ModelError
from pins.models.experts import Experts, separate
from tests.pins.oneshot.tiny_decoders import MIXTURES, network, window

pytest.importorskip("transformers", reason="the models are those of transformers")


def filled(model: Any) -> Any:
    """The model with separate experts, which take their rows of the tensors that it had."""
    stacked = {name: tensor for name, tensor in model.state_dict().items() if ".experts." in name}
    separate(model)
    for name, experts in model.named_modules():
        each: Any
        for number, each in enumerate(experts if isinstance(experts, Experts) else ()):
            gate, up = stacked[f"{name}.gate_up_proj"][number].chunk(2)
            down = stacked[f"{name}.down_proj"][number]
            for layer, weight in (
                (each.gate_proj, gate),
                (each.up_proj, up),
                (each.down_proj, down),
            ):
                layer.weight = nn.Parameter(weight)
    return model


@pytest.mark.parametrize("kind", MIXTURES)
@torch.no_grad()
def test_separate_experts_give_the_same_output(kind: str) -> None:
    right = network(kind)(window()).logits
    own = filled(network(kind))
    assert any(isinstance(each, Experts) for each in own.modules())
    assert torch.allclose(own(window()).logits, right, rtol=1e-4, atol=1e-5)
    swapped = next(each for each in own.modules() if isinstance(each, Experts))[0]
    swapped.gate_proj, swapped.up_proj = swapped.up_proj, swapped.gate_proj
    assert not torch.allclose(own(window()).logits, right, rtol=1e-4, atol=1e-5)


def test_other_experts_are_refused() -> None:
    with pytest.raises(ModelError, match=r"are not of the kind .* \(GptOssExperts\)"):
        separate(network("GptOss"))


def test_a_model_without_experts_stays_as_it_is() -> None:
    model = network("Llama")
    before = [*model.modules()]
    separate(model)
    assert [*model.modules()] == before

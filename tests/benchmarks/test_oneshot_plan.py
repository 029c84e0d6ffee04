"""The plan on paper counts what a tiny decoder has, and divides what ranks divide."""

from pathlib import Path

import pytest
import torch

from benchmarks.documents.oneshot_plan import (
    CALIBRATION,
    MODELS,
    TEST,
    Shape,
    memory,
    seconds,
)
from pins.models.decoder import Decoder
from pins.oneshot.gram import Grams, linear_layers
from tests.pins.oneshot.tiny_decoders import save_decoder, window

pytest.importorskip("transformers", reason="the models are those of transformers")

TINY = {
    "Llama": Shape(2, 16, 8, 24, head=8, vocabulary=72),
    "Mixtral": Shape(2, 16, 8, 24, experts=4, chosen=2, head=8, vocabulary=72),
}


@pytest.mark.parametrize("kind", TINY)
def test_bytes_are_those_of_a_tiny_decoder(kind: str, tmp_path: Path) -> None:
    decoder = Decoder.open(str(save_decoder(tmp_path, kind)))
    planned = memory(TINY[kind])
    states = [decoder.first(window(length=32, seed=seed)) for seed in range(4)]
    held = {id(states[0].hidden): states[0].hidden}
    for _, named in states[0].inputs:
        for value in named.values():
            parts = value if isinstance(value, tuple) else (value,)
            held |= {id(each): each for each in parts if torch.is_tensor(each)}
    floats = [each for each in held.values() if each.is_floating_point()]
    windows = (CALIBRATION + 2 * TEST) / 32
    assert planned["hidden states"] == windows * sum(each.nbytes for each in floats)
    with decoder.loaded(0) as block:
        layers = linear_layers(block)
        grams = Grams(layers)
        for state in states:
            with grams.watching():
                decoder.through(block, 0, state)
        grams.add()
        weights = sum(each.get_parameter("weight").nbytes for each in layers.values())
        assert planned["the block"] == weights
        assert all(grams.vectors(name) for name in layers)
        matrices = {id(each): each for each in map(grams.of, layers)}
        assert planned["Gram matrices"] == 2 * sum(each.nbytes for each in matrices.values())
    outside = (each for name, each in decoder.model.named_parameters() if "layers." not in name)
    assert planned["outside of the blocks"] == sum(
        each.nbytes for each in outside if each.dim() > 1
    )


def test_ranks_divide_what_they_share() -> None:
    for shape in MODELS.values():
        one, many = seconds(shape, 1), seconds(shape, 8)
        for stage in ("forward", "Gram", "refit"):
            assert many[stage] == one[stage] / 8
        for stage in ("disk", "scores", "SparseGPT"):
            assert many[stage] == one[stage]
        assert many["exchange"] > one["exchange"] == 0

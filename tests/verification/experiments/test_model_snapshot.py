from pathlib import Path

import pytest
import torch

from pins.errors import ModelError, ObservationError
from verification.experiments.model_snapshot import ModelSnapshot, layer_type, observe, spread


def test_each_layer_type_is_represented_by_one_tensor(small_real: ModelSnapshot) -> None:
    assert small_real.layer_types() == {
        "key": "bert.encoder.layer.1.key.weight",
        "dense": "bert.encoder.layer.1.dense.weight",
    }
    assert layer_type("bert.encoder.layer.3.attention.self.query.weight") == "attention.self.query"


def test_the_sgd_step_is_in_the_scores_of_pins_and_not_of_movement(
    small_real: ModelSnapshot,
) -> None:
    pins, movement = small_real.importance("pins"), small_real.importance("movement")
    for name, gradient in small_real.gradient.items():
        step = small_real.learning_rate * gradient.square()
        torch.testing.assert_close(pins[name] - movement[name], step, rtol=1e-2, atol=1e-12)


def test_obd_without_a_curvature_is_an_error(small_real: ModelSnapshot) -> None:
    with pytest.raises(ObservationError, match="no curvature was estimated"):
        small_real.importance("obd")


def test_a_snapshot_has_every_prunable_weight_of_the_model(tiny_model: Path) -> None:
    real = observe(str(tiny_model), rows=4)
    assert sum(w.numel() for w in real.before.values()) == 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert all(gradient.abs().max() > 0 for gradient in real.gradient.values())


def test_a_missing_model_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="'no/such' is not a folder here, and the hub did not"):
        observe("no/such")


def test_spread_takes_evenly_spaced_entries_or_all_of_a_small_tensor() -> None:
    assert spread(torch.arange(10).reshape(2, 5), 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(torch.arange(3), 5).tolist() == [0, 1, 2]

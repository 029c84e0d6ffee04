from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness.fine_tuned import FineTuned
from benchmarks.harness.timing import in_turns
from pins.errors import SettingError
from pins.tasks import Task, load_task
from tests.pins.runs.tiny_runs import same, save_data, save_model
from verification.experiments.loss_change import loss_changes

pytest.importorskip("transformers", reason="the models are transformers models")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_task("sst2", save_data(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model")))


def tuned(task: Task, model: str, *stops: int, seed: int = 0) -> FineTuned:
    found = FineTuned(task, model, seed=seed, learning_rate=1e-3)
    for steps in stops:
        found.advance(steps)
    return found


def weights(found: FineTuned) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in found._model.state_dict().items()}


def moments(found: FineTuned) -> dict[str, Tensor]:
    return {
        f"{at} {name}": value.clone()
        for at, state in enumerate(found._optimizer.state.values())
        for name, value in state.items()
    }


def looked_at(found: FineTuned) -> list[dict[str, Any]]:
    return found.loss_changes(
        [0.01, 0.5], rows=8, fisher_rows=4, seed=1, criteria=["pins", "trust-region"]
    )


def test_stops_on_the_way_change_nothing(task: Task, model: str) -> None:
    """Three batches make an epoch, so the stops lie in different ones."""
    at_once = weights(tuned(task, model, 5))
    assert same(weights(tuned(task, model, 0, 2, 2, 5)), at_once)
    assert not same(weights(tuned(task, model, 4)), at_once)
    assert not same(weights(tuned(task, model, 5, seed=1)), at_once)


def test_looking_leaves_no_trace(task: Task, model: str) -> None:
    found = tuned(task, model, 3)
    before = weights(found), moments(found), torch.get_rng_state()
    assert looked_at(found) == looked_at(found)
    assert same(weights(found), before[0])
    assert same(moments(found), before[1])
    assert before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(parameter.grad is None for parameter in found._model.parameters())
    found.advance(6)
    assert same(weights(found), weights(tuned(task, model, 6)))


def test_the_random_state_is_that_of_training_even_if_measuring_draws(
    task: Task, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(task, model, 3)

    def drawing(*given: Any) -> Any:
        torch.rand(5)
        return loss_changes(*given)

    monkeypatch.setattr("benchmarks.harness.fine_tuned.loss_changes", drawing)
    looked_at(found)
    found.advance(6)
    assert same(weights(found), weights(tuned(task, model, 6)))
    disturbed = tuned(task, model, 3)
    torch.rand(5)
    disturbed.advance(6)
    assert not same(weights(disturbed), weights(found))


def test_what_is_seen_depends_on_where_it_is_looked_at(task: Task, model: str) -> None:
    rows = looked_at(tuned(task, model, 3))
    assert [row["criterion"] for row in rows] == [
        "step alone",
        *["pins"] * 2,
        *["trust-region"] * 2,
    ]
    assert {row["loss"] for row in rows} != {row["loss_unseen"] for row in rows}
    assert looked_at(tuned(task, model, 2)) != rows


def test_methods_take_turns_in_both_orders_and_a_failure_ends_the_turns_of_one() -> None:
    calls: list[str] = []

    def start(name: str) -> Callable[[], float]:
        def turn() -> float:
            calls.append(name)
            if name == "b" and calls.count("b") == 3:
                raise OSError("no more")
            return 1.0

        turn()
        return turn

    rows = in_turns(["a", "b"], 3, start)
    assert "".join(calls) == "ab" + "ab" + "ba" + "a"
    assert rows["a"] == {"seconds": [1.0, 1.0, 1.0], "error": None}
    assert rows["b"] == {"seconds": None, "error": "OSError: no more"}


def test_training_does_not_go_back(task: Task, model: str) -> None:
    with pytest.raises(
        SettingError, match=r"3 steps have been taken, so advance\(2\) would go back"
    ):
        tuned(task, model, 3, 2)

"""What tells one run from another, and the name of what differs."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pins.runs.fingerprint import DERIVED, NOT_COMPARED, difference, fingerprint
from pins.runs.settings import Settings
from pins.tasks import load_task
from pins.tasks.task import Recipe
from tests.pins.runs.tiny_runs import SMALL, save_data, save_model

pytest.importorskip("transformers", reason="runs load transformers models")

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=1e-3, max_length=32)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Settings ↦ the fingerprint of their run, all on the same model and data."""
    folder = tmp_path_factory.mktemp("run")
    model, task = save_model(folder / "model"), load_task("sst2", save_data(folder / "data"))

    def run_of(**given: Any) -> dict[str, Any]:
        return fingerprint(Settings(**given).resolved(RECIPE, 1000), model, None, task)

    return run_of


def test_what_follows_from_others_is_last_and_has_no_default(
    run_of: Callable[..., dict[str, Any]],
) -> None:
    assert list(run_of())[-len(DERIVED) :] == list(DERIVED)
    assert {*run_of(), *NOT_COMPARED} == {field.name for field in fields(Settings)}
    given = Settings(steps=9)
    assert all(getattr(Settings(), name) is None for name in DERIVED)
    filled = given.resolved(RECIPE, 100)
    changed = {n for n, value in vars(filled).items() if value != getattr(given, n)}
    assert changed <= {*DERIVED, *NOT_COMPARED}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"steps": 900}, "steps"),
        ({"epochs": 4}, "steps"),
        ({"batch_size": 4}, "batch_size"),
        ({"criterion": "trust-region"}, "criterion"),
        ({"sparsity": 0.5, "steps": 900}, "sparsity"),
        ({"warmup": 3}, "warmup"),
        ({"evaluate_every": 3}, "evaluate_every"),
        ({}, None),
    ],
)
def test_a_difference_is_named_by_its_cause(
    run_of: Callable[..., dict[str, Any]], given: dict[str, Any], name: str | None
) -> None:
    one, other = run_of(), run_of(**given)
    found = difference(one, other)
    assert (found and found[0]) == name
    differing = [n for n in Settings().as_json() if one.get(n) != other.get(n)]
    # others follow from it, and come before it in the order of the settings
    assert (differing[:1] == [name]) == (name not in ("steps", "batch_size", None))


def test_of_digests_the_files_that_differ_are_shown() -> None:
    one = {"model": {"config.json": "a" * 64, "model.safetensors": "b" * 64}}
    other = {"model": {"config.json": "a" * 64, "model.safetensors": "c" * 64}}
    assert difference(one, other) == (
        "model",
        '{"model.safetensors": "bbbbbbbbbbbb"}',
        '{"model.safetensors": "cccccccccccc"}',
    )
    assert difference(one, {"model": None}) is not None
    assert difference(one, dict(one)) is None


def test_every_file_that_a_run_reads_is_in_its_fingerprint(tmp_path: Path) -> None:
    model, teacher = save_model(tmp_path / "model"), save_model(tmp_path / "teacher")
    task = load_task("sst2", save_data(tmp_path / "data"))
    settings = Settings(**SMALL)

    def now() -> dict[str, object]:
        return fingerprint(settings, model, teacher, task)

    whole = now()
    for folder, kind in ((model, "model"), (teacher, "teacher")):
        for file in sorted(folder.iterdir()):
            before = file.read_bytes()
            file.write_bytes(before[:-2] + b" " + before[-1:])
            found = difference(whole, now())
            assert found is not None, file.name
            assert found[0] == kind
            assert file.name in found[1]
            file.write_bytes(before)
    (model / "masks.safetensors").write_bytes(b"of a run")
    (model / "run.json").write_bytes(b"of a run")
    assert difference(whole, now()) is None

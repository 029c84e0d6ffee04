"""What tells one run from another, and the name of what differs."""

from dataclasses import replace
from pathlib import Path

import pytest

from pins.runs.fingerprint import DERIVED, NOT_COMPARED, compared, difference, fingerprint
from pins.runs.settings import Settings
from pins.tasks import load_task
from pins.tasks.task import Recipe
from tests.pins.runs.tiny_runs import SMALL, save_data, save_model

pytest.importorskip("transformers", reason="runs load transformers models")

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=1e-3, max_length=32)


def test_what_follows_from_others_are_settings_with_a_default_of_none() -> None:
    assert set(DERIVED) < {*compared(Settings())}
    assert all(getattr(Settings(), name) is None for name in DERIVED)
    given = Settings(steps=9)
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
def test_a_difference_is_named_by_its_cause(given: dict[str, object], name: str | None) -> None:
    one = compared(Settings().resolved(RECIPE, 1000))
    other = compared(replace(Settings(), **given).resolved(RECIPE, 1000))
    found = difference(one, other)
    assert (found and found[0]) == name
    if name in ("steps", "batch_size", "criterion"):
        # others follow from it, and come before it in the settings
        assert len([n for n in one if one[n] != other[n]]) > 1


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

"""A run resumes from its own checkpoint, and says what makes another one of it."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pins
from pins.errors import CheckpointError
from pins.runs import checkpoints
from pins.runs.export import finish
from pins.runs.run import Run
from pins.utils.io import read_state, write_state
from pins.utils.provenance import versions
from tests.pins.runs.tiny_runs import save_model, settings, take

pytest.importorskip("transformers", reason="runs load transformers models")


def test_another_activation_and_another_vocabulary_are_other_models(
    data: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model")
    wanted = settings(model, data)
    take(Run(wanted, tmp_path / "out"), 3)
    config, tokenizer = (model / name for name in ("config.json", "tokenizer.json"))
    for file, *swapped in (
        (config, ('"gelu"', '"relu"')),
        (tokenizer, ('"class": 11', '"class": 12'), ('"function": 12', '"function": 11')),
    ):
        before = file.read_text()
        for one, other in swapped:
            assert one in before
            file.write_text(file.read_text().replace(one, other))
        message = f'is of another run: its model is {{"{file.name}": "[0-9a-f]{{12}}"}}, this run'
        with pytest.raises(CheckpointError, match=message):
            Run(wanted, tmp_path / "out", resume=True)
        file.write_text(before)
    (model / "masks.safetensors").write_text("of a run that wrote the model")
    assert Run(wanted, tmp_path / "out", resume=True).step == 2


def test_the_setting_that_was_changed_is_named_and_not_what_follows_from_it(
    model: Path, data: Path, tmp_path: Path
) -> None:
    free = {"warmup": None, "cooldown": None, "evaluate_every": None}
    take(Run(settings(model, data, steps=100, **free), tmp_path / "out"), 3)
    with pytest.raises(CheckpointError, match="its steps is 100, this run's is 150; give"):
        Run(settings(model, data, steps=150, **free), tmp_path / "out", resume=True)


def changed_checkpoint(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the scalars of the last checkpoint, with a digest that fits."""
    place = checkpoints.latest(out / "checkpoints")
    assert place is not None
    file = place / checkpoints.STATE
    state = read_state(file, checkpoints.FORMAT, checkpoints.VERSION)
    change(state["scalars"])
    write_state(state, file)


def update_pruner(change: dict[str, Any], scalars: dict[str, Any]) -> None:
    scalars["training"]["pruner"].update(change)


def test_a_state_that_was_written_by_others_is_refused(
    model: Path, data: Path, tmp_path: Path
) -> None:
    take(Run(settings(model, data), tmp_path / "out"), 4)
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"steps": 6}, "is torn: its pruner has taken 6 steps, not 4"),
        ({"settings": []}, "does not fit this model: 'list' object has no attribute 'get'"),
    )
    for change, message in changes:
        out = shutil.copytree(tmp_path / "out", tmp_path / next(iter(change)))
        changed_checkpoint(out, partial(update_pruner, change))
        with pytest.raises(CheckpointError, match=message):
            Run(settings(model, data), out, resume=True)
    changed_checkpoint(tmp_path / "out", lambda scalars: scalars["record"].update(losses="x"))
    with pytest.raises(CheckpointError, match="is torn: losses is no list"):
        Run(settings(model, data), tmp_path / "out", resume=True)


def test_a_run_that_another_version_began_says_so_and_keeps_both(
    model: Path, data: Path, tmp_path: Path
) -> None:
    def older(scalars: dict[str, Any]) -> None:
        scalars["record"]["software"][0] |= {"pins": "0.0.9", "torch": "1.2"}

    out = tmp_path / "out"
    assert take(Run(settings(model, data), out), 4).notice is None
    assert Run(settings(model, data), out, resume=True).notice is None
    changed_checkpoint(out, older)
    run = Run(settings(model, data), out, resume=True)
    now = {"pins": pins.__version__, "torch": versions()["torch"]}
    assert run.notice == (
        "The earlier steps were taken by pins 0.0.9, torch 1.2, the next ones are by "
        f"pins {now['pins']}, torch {now['torch']}."
    )
    facts = finish(take(run))
    told = [{name: row[name] for name in ("step", "pins", "torch")} for row in facts["software"]]
    assert told == [{"step": 0, "pins": "0.0.9", "torch": "1.2"}, {"step": 4, **now}]

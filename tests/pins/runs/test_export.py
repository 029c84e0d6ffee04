"""What a run leaves behind: whole or not at all, in JSON that every reader takes."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pins.errors import FileError, OptimalityError
from pins.runs.export import finish, finite, headline
from pins.runs.run import Run
from tests.full_disk import files_of_at_most
from tests.pins.runs.tiny_runs import names, save_classifier, save_data, save_model, settings, take

pytest.importorskip("transformers", reason="runs load transformers models")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each),
    max_leaves=9,
)


@given(VALUES)
def test_what_is_not_finite_is_none_and_all_else_stays(value: Any) -> None:
    text = json.dumps(finite(value), allow_nan=False)
    wanted = json.loads(json.dumps(value), parse_constant=lambda _: None)
    assert json.loads(text) == wanted


def test_tuples_are_lists_in_json() -> None:
    assert finite((1, (math.nan, -math.inf, 0.5))) == [1, [None, None, 0.5]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_data(tmp_path_factory.mktemp("data"))


def test_a_run_is_finished_after_its_last_step_alone(data: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    run = take(Run(settings(model, data), tmp_path / "out"), 10)
    assert run.training.pruner.finished  # and in its cool-down
    with pytest.raises(OptimalityError, match="was called after 10 of 12 steps: take them all"):
        finish(run)
    assert "model.safetensors" not in names(run.out)
    assert finish(take(run))["decisions"][-1]["step"] == 9


def test_a_final_decision_that_overflowed_is_told(data: Path, tmp_path: Path) -> None:
    # a head so large that its gradient overflows in float16, and its loss does not
    model = save_classifier(tmp_path / "model", factor=2000.0)
    wanted = settings(
        model, data, precision="float16", steps=1, warmup=0, cooldown=0, learning_rate=1e-6
    )
    run = take(Run(wanted, tmp_path / "out"))
    assert run.step == 1
    with pytest.raises(OptimalityError, match="last ones overflowed; give more steps, or another"):
        finish(run)
    longer = take(Run(settings(model, data, precision="float16", steps=30), tmp_path / "longer"))
    assert longer.training.pruner.finished


def test_a_model_that_cannot_be_written_leaves_the_checkpoint(data: Path, tmp_path: Path) -> None:
    run = take(Run(settings(save_model(tmp_path / "model"), data), tmp_path / "out"))
    tokenizer: Any = run.pretrained.tokenizer
    tokenizer.add_tokens([f"word {number}" for number in range(1000)])  # larger than the model
    for size in (20_000, 60_000):
        too_large = pytest.raises(FileError, match=r"the model in .* cannot be written: .*large")
        with too_large, files_of_at_most(size):
            finish(run)
        assert "checkpoints" in names(run.out)
        assert "run.json" not in names(run.out)
        assert "model.safetensors" not in names(run.out)
        assert ".unfinished-model" not in names(run.out)
    finish(run)
    assert "run.json" in names(run.out)


def test_all_files_have_the_permissions_that_the_umask_gives(data: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    before = os.umask(0o027)
    try:
        run = take(Run(settings(model, data), tmp_path / "out"))
        kept = [file for file in run.out.rglob("*") if file.is_file()]
        finish(run)
        kept += [file for file in run.out.rglob("*") if file.is_file()]
        assert {file.name for file in kept} >= {"state.json", "model.safetensors", "run.json"}
        modes = {file.name: f"{file.stat().st_mode & 0o777:o}" for file in kept if file.exists()}
        assert set(modes.values()) == {"640"}, modes
        # the library itself writes for the owner alone, which the test would notice
        save_file({}, tmp_path / "library")
        assert f"{(tmp_path / 'library').stat().st_mode & 0o777:o}" == "600"
    finally:
        os.umask(before)


def test_what_others_left_in_the_folder_stays(data: Path, tmp_path: Path) -> None:
    run = take(Run(settings(save_model(tmp_path / "model"), data), tmp_path / "out"))
    others = {".README.md.swp", "mine.txt", ".run.json"}
    for name in others:
        (run.out / name).write_text("")
    (run.out / ".unfinished.a_b1").mkdir()  # of a process that was killed
    finish(run)
    assert {name for name in names(run.out) if name[0] == "." or name in others} == others


def test_the_headline_says_what_was_reached(data: Path, tmp_path: Path) -> None:
    run = take(Run(settings(save_model(tmp_path / "model"), data), tmp_path / "out"))
    facts = finish(run)
    lines = dict(headline(facts))
    assert lines["kept"] == "819 of 4,096 prunable weights, exactly"
    assert lines["sparsity"] == f"{1 - 819 / 4096:.4%}"
    assert lines["judged on"] == "60 validation rows"
    assert "certificate" not in lines  # nobody asked for one
    facts["scores"]["sparse"]["accuracy"] = None
    assert dict(headline(facts))["accuracy"] == "not finite (headline)"

"""The folder of `pins prune`: whose run it holds, who writes there, and under which names."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import pins as package
from pins.cli import main
from pins.errors import FileError
from pins.runs.folder import require_free
from pins.utils.folder_lock import LOCK, locked
from tests.commands import Command
from tests.pins.runs.tiny_runs import names, save_classifier, save_data

pytest.importorskip("transformers", reason="runs load transformers models")


NO_TEXT = os.fsdecode(b"d\xff")  # a name that is not UTF-8


def words(folder: Path, out: Path | str, *more: str, steps: str = "--steps=4") -> list[str]:
    return [
        "prune", "--out", str(out), "--task", "sst2", "--model", str(folder / "model"),
        "--data", str(folder / NO_TEXT), "--teacher", str(folder / "teacher"), "--batch-size", "4",
        "--max-length", "16", "--interval", "1", "--device", "cpu", steps, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a teacher, data in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("folder")
    save_classifier(folder / "model")
    save_classifier(folder / "teacher", factor=2.0)
    save_data(folder / NO_TEXT)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> tuple[Path, str]:
    """The folder of a run whose name is almost markup, and what the run printed."""
    out, said = folder / "a[" / "b] [bold]c :heart: {d}", io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(said):
        patched.setattr(sys, "argv", ["pins", *words(folder, out)])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    return out, said.getvalue()


def replace(file: Path, one: str, other: str) -> None:
    text = file.read_text()
    assert one in text
    file.write_text(text.replace(one, other))


CHANGES: dict[str, Callable[[Path], object]] = {
    "model": lambda inputs: replace(inputs / "model" / "config.json", '"gelu"', '"relu"'),
    "teacher": lambda inputs: save_classifier(inputs / "teacher", factor=3.0),
    "data": lambda inputs: save_data(inputs / NO_TEXT, rows=61),
}


def test_a_run_that_is_done_is_one_of_the_same_model_teacher_data_and_steps(
    pins: Command, folder: Path, done: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = done
    before = {name: (out / name).read_bytes() for name in names(out)}
    for name, change in CHANGES.items():
        other = tmp_path / name
        for part in ("model", "teacher", NO_TEXT):
            shutil.copytree(folder / part, other / part)
        change(other)
        code, said, err = pins(*words(other, out, "--resume"))
        assert (code, said) == (2, "")
        assert f"holds a run that is done, and its {name} is {{" in err.splitlines()[-1]
    for more, differs in (
        (["--epochs=1"], "its steps is 4, not 14"),
        (["--steps=4", "--warmup=1"], "its warmup is 0, not 1"),
        (["--steps=4", "--learning-rate=1"], "its learning_rate is "),
    ):
        code, said, err = pins(*words(folder, out, *more[1:], "--resume", steps=more[0]))
        assert (code, said) == (2, "")
        assert differs in err
    (out / LOCK).touch()  # a process that was killed at its very end leaves these
    (out / ".unfinished.a_b1").mkdir()
    code, said, _ = pins(*words(folder, out, "--resume", "--checkpoint-every=1"))
    assert code == 0
    assert said.startswith(f"{out} holds a run that is done.\n")
    assert {name: (out / name).read_bytes() for name in names(out)} == before

    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**facts, "pins": "0.0.9"}))
    code, said, _ = pins(*words(folder, out, "--resume"))
    assert code == 0
    assert f"is done, by pins 0.0.9; this is pins {package.__version__}.\n" in said
    del facts["fingerprint"]
    (out / "run.json").write_text(json.dumps(facts))
    code, said, err = pins(*words(folder, out, "--resume"))
    assert (code, said) == (2, "")
    assert "of a version of pins that kept no digests to compare with: give another folder" in err


def test_a_second_run_in_the_folder_is_refused(pins: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        for more in ([], ["--resume"]):
            code, said, err = pins(*words(folder, out, *more))
            assert (code, said) == (2, "")
            assert err == (
                f"pins: another run is writing to {out}: wait for its end, or give another folder\n"
            )
        code, _, err = pins("demo", "--out", out)
        assert code == 2
        assert "another run is writing to" in err
    assert not out.exists()
    out.mkdir()
    (out / LOCK).touch()  # what a killed process leaves
    require_free(out, resume=False)
    (out / "mine").touch()
    with pytest.raises(FileError, match="holds files"):
        require_free(out, resume=False)


def test_a_path_with_markup_is_a_path_and_one_that_is_no_text_is_kept(
    folder: Path, done: tuple[Path, str]
) -> None:
    out, said = done
    assert said.splitlines()[-1] == f"Model: {out}"
    assert LOCK not in names(out)
    kept = json.loads((out / "run.json").read_text(encoding="utf-8"))["settings"]["data"]
    assert os.fsencode(kept) == os.fsencode(folder / NO_TEXT)


def test_a_folder_whose_name_is_no_text_is_refused_first(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff"))
    for command in (words(folder, str(odd)), ["demo", "--out", str(odd)]):
        code, said, err = pins(*command)
        assert (code, said) == (2, "")
        assert "a\\udcff is not UTF-8: give another folder" in err
        assert err.count("\n") == 1
        assert not odd.exists()

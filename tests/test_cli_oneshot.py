"""`pins oneshot`, as somebody types it."""

import json
from pathlib import Path

import pytest

from pins.oneshot import decision
from tests.commands import Command
from tests.pins.oneshot.tiny_decoders import save_decoder, save_text

pytest.importorskip("transformers", reason="the models are those of transformers")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    save_decoder(place / "model")
    save_text(place / "text.txt")
    return place


def words(inputs: Path, out: Path, *others: str) -> list[str | Path]:
    return [
        "oneshot", "--model", inputs / "model", "--task", "text", "--data", inputs / "text.txt",
        "--out", out, "--device", "cpu", "--length", "16", "--calibration", "4", *others,
    ]  # fmt: skip


def test_a_model_is_pruned_and_described(pins: Command, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("--method", "wanda", "--sparsity", "0.5", "--scope", "row")
    code, said, err = pins(*words(inputs, out, *given))
    assert (code, err) == (0, "")
    facts = json.loads((out / "run.json").read_text())
    assert "1,920 of 3,840 prunable weights, exactly" in said
    assert f"{facts['perplexity']['sparse']:.4f} (headline)" in said
    assert "windows of 16, 12 tokens left" in said
    assert f"Model: {out}" in said
    assert facts["settings"]["method"] == "wanda"

    code, said, err = pins(*words(inputs, out, *given, "--resume", "--json"))
    assert (code, err) == (0, "")
    assert json.loads(said) == {"folder": str(out), **facts}


@pytest.mark.parametrize(
    ("others", "why"),
    [
        (["--length", "33"], "length is 33, and the model has positions for 32 tokens"),
        (["--calibration", "999"], "the calibration text has 540 tokens, and 999 windows of 16"),
        (["--task", "texts"], "there is no task 'texts'"),
        (["--method", "obc"], "method is 'obc'"),
        (["--scope", "global"], "wanda prunes each layer by itself, and --scope global ranks"),
        (["--learning-rate", "0.1"], "pins alone looks a step ahead"),
        (["--sparsity", "2"], "sparsity is 2.0: it is a ratio"),
        (["--pattern", "2:5"], "rows of 16 weights, which 5 does not divide"),
        (["--pattern", "transposable-2:4"], "transposable-2:4 is not for one-shot pruning yet"),
        (
            ["--pattern", "2:4", "--sparsity", "0.6", "--method", "sparsegpt"],
            "sparsegpt chooses masks from left to right",
        ),
        (["--model", "/no/such/folder"], "is not a folder here"),
        (["--device", "cpux"], "cpux"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    pins: Command, inputs: Path, tmp_path: Path, others: list[str], why: str
) -> None:
    code, said, err = pins(*words(inputs, tmp_path / "out", *others))
    assert (code, said) == (2, "")
    assert err.startswith("pins: ")
    assert err.count("\n") == 1
    assert why in err
    assert not (tmp_path / "out").exists()


def test_a_test_text_shorter_than_a_window_is_refused(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.txt").write_bytes((inputs / "text.txt").read_bytes())
    (tmp_path / "test.txt").write_text("t1 t2 t3\n")
    code, _, err = pins(*words(inputs, tmp_path / "out", "--data", str(tmp_path)))
    assert (code, err.count("\n")) == (2, 1)
    assert "the test text has 3 tokens, fewer than one window of 16" in err


def test_matrices_that_m_does_not_divide_are_kept_if_asked(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    # rows of 16 and of 24 weights: 3 divides one of them
    others = ("--pattern", "1:3", "--skip-indivisible", "--json")
    code, said, _ = pins(*words(inputs, tmp_path / "out", *others))
    assert code == 0
    for report in json.loads(said)["blocks"]:
        for name, layer in report["layers"].items():
            pruned = "down_proj" in name
            assert layer["kept"] * (3 if pruned else 1) == layer["total"], name
            assert (layer["error"] > 0) == pruned


def test_a_model_that_does_not_fit_is_refused_and_a_decision_made_needs_no_memory(
    pins: Command, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, given = tmp_path / "out", ("--method", "obd", "--scope", "global")
    free = [10_000, 10**9, 10_000]
    monkeypatch.setattr(decision, "free_bytes", lambda _: free.pop(0))
    code, said, err = pins(*words(inputs, out, *given))
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert "obd needs the whole model and its gradients in memory, about" in err
    assert "bytes, and cpu has 10,000 free: give" in err
    assert not out.exists()
    code, said, _ = pins(*words(inputs, out, *given))
    assert code == 0
    assert "certificates          1, of the masks of all blocks, in blocks/" in said
    assert "predicted" in said
    (out / "run.json").unlink()
    assert pins(*words(inputs, out, *given, "--resume"))[0] == 0


@pytest.mark.parametrize("option", ["--model", "--out"])
def test_what_is_required_is_asked_for(pins: Command, option: str, tmp_path: Path) -> None:
    given = {"--model": str(tmp_path), "--out": str(tmp_path / "out")}
    del given[option]
    code, _, err = pins("oneshot", *(word for pair in given.items() for word in pair))
    assert (code, err.count("\n")) == (2, 1)
    assert f"there is no {option[2:]}: give {option}" in err


def test_a_folder_in_use_is_left_as_it_is(pins: Command, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    code, _, err = pins(*words(inputs, out))
    assert (code, err.count("\n")) == (2, 1)
    assert "holds files (mine.txt …): give another folder" in err
    assert [file.name for file in out.iterdir()] == ["mine.txt"]


def test_a_run_goes_on_only_with_its_own_settings(
    pins: Command, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert pins(*words(inputs, out))[0] == 0
    for done in (True, False):
        code, _, err = pins(*words(inputs, out, "--resume", "--sparsity", "0.6"))
        assert (code, err.count("\n")) == (2, 1)
        assert "holds a run whose sparsity is None, not 0.6" in err
        code, _, err = pins(*words(inputs, out))
        assert (code, err.count("\n")) == (2, 1)
        assert "--resume" in err
        if done:
            (out / "run.json").unlink()
    assert pins(*words(inputs, out, "--resume"))[0] == 0

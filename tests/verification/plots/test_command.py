"""`pins plot`, as somebody types it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pins import masks
from pins.runs import weight_sample
from pins.runs.folder import MASKS, RUN
from pins.utils.io import load_tensors, write_json
from tests.commands import Command

figures = pytest.importorskip(
    "verification.plots.registry", reason="the figures are drawn by matplotlib"
)

from verification.plots import command  # noqa: E402

SIGNATURES = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_figure_is_written_in_each_format_and_again(
    suffix: str, pins: Command, demo_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"dual{suffix}"
    code, said, err = pins("plot", "dual-function", "--from", demo_folder, "--out", out)
    assert (code, err) == (0, "")
    assert figures.FIGURES["dual-function"].title in said
    assert "so each λ of the interval is a proof" in " ".join(said.split())
    first = out.read_bytes()
    assert first.startswith(SIGNATURES[suffix])
    assert pins("plot", "dual-function", "--from", demo_folder, "--out", out)[0] == 0
    assert out.read_bytes() == first  # the same run, the same bytes


def test_without_a_name_it_says_which_there_are(pins: Command) -> None:
    code, said, _ = pins("plot")
    assert code == 0
    for name, entry in figures.FIGURES.items():
        assert name in said
        assert entry.title in said
    assert pins("plot", "all", "--list")[:2] == (0, said)
    code, said, err = pins("plot", "--list", "--json")
    assert (code, err) == (0, "")
    assert json.loads(said) == {
        "figures": [
            {"name": name, "title": entry.title, "source": entry.source}
            for name, entry in figures.FIGURES.items()
        ]
    }


def test_all_are_written_that_the_run_has_data_for(
    pins: Command, prune_folder: Path, tmp_path: Path
) -> None:
    code, said, _ = pins("plot", "all", "--from", prune_folder, "--out", tmp_path / "figures")
    assert code == 0
    written = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert written == {n for n, entry in figures.FIGURES.items() if "pins prune" in entry.source}
    for name in figures.FIGURES.keys() - written:
        assert f"left out: {name}: " in said


def unmeasured(run: Path) -> None:
    """As `--no-measure` and the authors' method leave a run."""
    document = json.loads((run / "run.json").read_text())
    for decision in document["decisions"]:
        del decision["predicted"], decision["measured"]
    write_json(document, run / "run.json")


def without_a_loss(run: Path) -> None:
    """As a model leaves a demo whose loss is 0, and with it every gradient."""
    document = json.loads((run / "results.json").read_text())
    document["compared"]["loss"] = 0.0
    del document["multiplier_path"][1:-1]
    tests = {claim["id"]: claim for claim in document["ledger"]["claims"]}
    for test in tests["taylor-second-order"]["check"]["numbers"].values():
        test["remainders"] = [[0.0 for _ in row] for row in test["remainders"]]
    write_json(document, run / "results.json")
    sample = weight_sample.load(run / "sample.safetensors")
    gradient = {name: 0 * g for name, g in sample.gradient.items()}
    weight_sample.save(replace(sample, gradient=gradient), run / "sample.safetensors")


def with_minimums(run: Path) -> None:
    """As a minimum in each tensor leaves a run: a weight below the threshold is kept."""
    scores, _ = load_tensors(run / "scores.safetensors")
    masks.save({n: s == s.min() for n, s in scores.items()}, run / MASKS)


def with_a_step_beyond_any_axis(run: Path) -> None:
    """Its ticks are computed when the figure is rendered, not when it is made."""
    document = json.loads((run / RUN).read_text())
    for row in document["decisions"]:
        row["step"] = 1e308
    write_json(document, run / RUN)


@pytest.mark.parametrize(
    ("folder", "change", "left_out"),
    [
        pytest.param(
            *("prune_folder", with_a_step_beyond_any_axis, {"survival": "values that cannot be"}),
            marks=pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of the ticks
        ),
        ("prune_folder", unmeasured, {"predicted-measured": "decisions whose change of the loss"}),
        (
            "demo_folder",
            without_a_loss,
            {
                "regret": "a sample whose scores are all 0",
                "multiplier-path": "a path with no point between its ends: the loss is 0",
                "taylor": "Taylor remainders that are rounding alone",
            },
        ),
        ("prune_folder", with_minimums, {"sorted-scores": "a mask that no single threshold"}),
    ],
)
def test_what_a_run_has_no_numbers_for_is_left_out_with_the_reason(
    folder: str,
    change: Callable[[Path], None],
    left_out: dict[str, str],
    pins: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    run = shutil.copytree(request.getfixturevalue(folder), tmp_path / "run")
    change(run)
    wanted = {name: figures.FIGURES[name] for name in (*left_out, "schedule")}
    monkeypatch.setattr(command, "FIGURES", wanted)
    code, said, err = pins("plot", "all", "--from", run, "--out", tmp_path / "figures")
    assert (code, err) == (0, "")
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["schedule.svg"]
    for name, reason in left_out.items():
        assert f"left out: {name}: {run} holds {reason}" in said


def test_of_a_folder_without_a_run_nothing_is_drawn(pins: Command, tmp_path: Path) -> None:
    code, said, _ = pins("plot", "all", "--from", tmp_path, "--out", tmp_path / "figures")
    assert code == 2
    assert said.count("left out: ") == len(figures.FIGURES)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pie", "--out", "x.svg"), "there is no figure 'pie': choose one of polytope"),
        (("polytope", "--json"), "give it with --list, without a figure's name"),
        (("polytope",), "the figure has no file: give --out FILE"),
        (
            ("polytope", "--out", "x.gif"),
            "x.gif is no name for a figure: end it in one of .svg, .png",
        ),
        (("polytope", "--out", "x.svg", "--from", "nowhere"), "nowhere is no folder: give the"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    pins: Command,
    demo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = arguments if "--from" in arguments else (*arguments, "--from", str(demo_folder))
    code, said, err = pins("plot", *given)
    assert (code, said) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("schedule", {"settings": []}),
        ("schedule", {"decisions": [{"step": "one"}]}),
        ("survival", {"decisions": 3}),
        ("layer-sparsity", {"tensors": None, "layers": {"a": 1}}),
        ("loss-change", {"loss_changes": [1, 2]}),
        ("taylor", {"ledger": {"claims": [{}]}}),
        ("sorted-scores", {"last_decision": {"lambda": None, "keep": "3"}}),
    ],
)
def test_values_that_cannot_be_drawn_are_one_line(
    name: str, change: dict[str, Any], pins: Command, demo_folder: Path, tmp_path: Path
) -> None:
    document = json.loads((demo_folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(document | change))
    code, said, err = pins("plot", name, "--from", tmp_path, "--out", tmp_path / "figure.svg")
    assert (code, said) == (2, "")
    assert re.fullmatch(rf"pins: {re.escape(str(tmp_path))} holds .*\n", err)
    assert not (tmp_path / "figure.svg").exists()


def test_what_is_no_figure_is_not_written_over(
    pins: Command, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {name: figures.FIGURES[name] for name in ("plane", "schedule")}
    monkeypatch.setattr(command, "FIGURES", wanted)
    precious = tmp_path / "mine.svg"
    precious.write_text("<svg>precious</svg>")
    code, _, err = pins("plot", "polytope", "--from", demo_folder, "--out", precious)
    assert code == 2
    assert "mine.svg exists and is no figure of PINS: give another path" in err
    assert precious.read_text() == "<svg>precious</svg>"
    code, said, _ = pins("plot", "all", "--from", demo_folder, "--out", precious)
    assert code == 2
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "plane.svg").write_text("precious")
    code, said, _ = pins("plot", "all", "--from", demo_folder, "--out", tmp_path / "figures")
    assert code == 0
    assert "left out: plane: " in said
    assert (tmp_path / "figures" / "plane.svg").read_text() == "precious"

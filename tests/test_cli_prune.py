"""`pins prune`, `pins pack`, `pins unpack`, as somebody types them."""

import io
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from pins.models import sparse_format
from pins.runs import checkpoints
from pins.runs.command import result_table
from pins.runs.finetuning import FineTuning
from pins.runs.run import Run
from pins.runs.settings import Settings, read_settings
from tests.commands import Command
from tests.pins.runs.tiny_runs import names, save_run, take

pytest.importorskip("transformers", reason="runs load transformers models")

RESULTS = ("model.safetensors", "masks.safetensors", "scores.safetensors", "packed.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data, and a file of settings."""
    return save_run(tmp_path_factory.mktemp("prune"), steps=12, learning_rate=1e-3, sparsity=0.75)


def test_code_of_a_model_is_not_run_whatever_stands_on_standard_input(
    pins: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ran, answers = tmp_path / "model", tmp_path / "ran", io.StringIO("yes\n" * 9)
    shutil.copytree(folder / "model", model)
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.setattr(sys, "stdin", answers)
    given = ("--config", folder / "run.toml", "--model", model, "--out", tmp_path / "out")
    code, _, err = pins("prune", *given)
    assert code == 2
    assert re.fullmatch(r"pins: .*needs code that comes with it, which PINS does not run.*\n", err)
    assert answers.tell() == 0
    assert not ran.exists()


def test_a_model_is_pruned_certified_and_described(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said, err = pins("prune", "--config", folder / "run.toml", "--out", out)
    assert (code, err) == (0, "")
    assert "1,024 of 4,096 prunable weights, exactly" in said
    assert "No certificate" not in said
    assert "the final mask keeps 1,024 of 4,096 weights and is" in said
    assert "latency pruned" in said
    facts = json.loads((out / "run.json").read_text())
    assert facts["settings"]["sparsity"] == 0.75
    assert facts["costs"]["weights"]["kept"] == 1024
    assert pins("check", out / "certificate.json")[0] == 0
    assert "1,024 of 4,096" in (out / "README.md").read_text()

    again = pins("prune", "--config", folder / "run.toml", "--out", out, "--resume")
    assert again[0] == 0
    assert "holds a run that is done" in again[1]
    code, said, err = pins(
        "prune", "--config", folder / "run.toml", "--out", out, "--resume", "--json"
    )
    assert code == 0
    assert json.loads(said) == {"folder": str(out), **facts}
    assert err == f"{out} holds a run that is done.\n"
    code, _, err = pins("prune", "--config", folder / "run.toml", "--out", out)
    assert code == 2
    assert "give another folder" in err

    (out / "model.safetensors").rename(tmp_path / "dense.safetensors")
    code, said, _ = pins("unpack", out, "--out", tmp_path / "unpacked")
    assert code == 0
    dense = load_file(tmp_path / "dense.safetensors")
    unpacked = load_file(tmp_path / "unpacked" / "model.safetensors")
    assert all(torch.equal(tensor, unpacked[name]) for name, tensor in dense.items())


@pytest.mark.parametrize("radius", ["1", "1e-9"])
def test_a_trust_region_is_certified_within_its_cost_or_as_optimal_brain_damage(
    pins: Command, folder: Path, tmp_path: Path, radius: str
) -> None:
    out = tmp_path / "out"
    arguments = ["--criterion", "trust-region", "--radius", radius, "--schedule", "one-shot"]
    # one step is left to the decision, so the radius is whole
    arguments += ["--warmup", "11"]
    code, said, err = pins("prune", "--config", folder / "run.toml", "--out", out, *arguments)
    assert (code, err) == (0, "")
    assert "1,024 of 4,096 prunable weights, exactly" in said
    facts = json.loads((out / "run.json").read_text())
    (decision,) = facts["decisions"]
    assert facts["settings"]["smoothing"] == "none"
    assert facts["settings"]["radius"] == float(radius)
    assert decision["measured"] != decision["predicted"]
    # a promise too small for any weight to be exchanged is one of nothing
    assert (decision["promised"] > 0) == (radius == "1")
    certificate = json.loads((out / "certificate.json").read_text())
    assert (certificate["claim"]["radius"] is not None) == bool(decision["multiplier"])
    assert (out / "costs.safetensors").exists() == bool(decision["multiplier"])
    assert pins("check", out / "certificate.json")[0] == 0
    assert "radius, as a share of the loss: " in (out / "README.md").read_text()


def test_options_come_before_the_file(pins: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--sparsity", "0.5", "--no-self-regularization", "--criterion", "obd"]
    command = ("prune", "--config", folder / "run.toml", "--out", out, "--json")
    code, said, err = pins(*command, *arguments)
    assert code == 0
    assert "100 %" in err  # progress
    facts = json.loads(said)
    assert facts == {"folder": str(out), **json.loads((out / "run.json").read_text())}
    assert facts["costs"]["weights"]["kept"] == 2048
    assert facts["settings"]["self_regularization"] is False
    assert facts["settings"]["criterion"] == "obd"


def test_a_minimum_that_binds_is_told_and_certified(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--criterion", "magnitude", "--smoothing", "none", "--layer-minimum", "0.24"]
    code, said, _ = pins("prune", "--config", folder / "run.toml", "--out", out, *arguments)
    assert code == 0
    assert "bounds bind" in said
    certificate = json.loads((out / "certificate.json").read_text())
    claim, counts = certificate["claim"], certificate["evidence"]["counts"]
    minimums = [part["minimum"] for part in claim["tree"]]
    assert minimums == [ceil(0.24 * prod(each["shape"])) for each in claim["scope"]]
    assert any(kept == least for kept, least in zip(counts, minimums, strict=True))
    assert pins("check", out / "certificate.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sst3"], "there is no task 'sst3': choose one of rte"),
        (["--sparsity", "1.2"], "final_sparsity is 1.2: it is a ratio"),
        (["--criterion", "best"], "criterion is 'best': choose one of pins"),
        (["--model", "no/such/model"], "is not a folder here, and the hub did not give it"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--warmup", "9", "--cooldown", "9"], "too many"),
        (["--schedule", "one-shot", "--warmup", "12"], "leaves no step to prune in 12: 1 too many"),
        (["--max-length", "65"], "max_length is 65, and the model has positions for 64 tokens"),
        (["--seed", str(2**63)], "it is at least 0 and at most 9223372036854775807"),
        (["--device", "abacus"], "'abacus' is no device: give cuda, mps or cpu"),
        (["--precision", "float8"], "there is no precision 'float8': choose one of float32"),
        (["--include", "nothing"], "has no prunable weight"),
        (
            ["--criterion", "obd", "--optimizer", "sgd", "--curvature", "adam"],
            "reads a diagonal curvature and SGD keeps none",
        ),
        (["--criterion", "obd", "--radius", "0.1"], "only trust-region has one, leave it out"),
        (
            ["--criterion", "trust-region", "--smoothing", "average"],
            "its inputs are averages already",
        ),
        (["--criterion", "authors", "--without-quirks", "abs"], "there is no quirk 'abs'"),
        (["--task", "wikitext"], "has no head for this task"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    pins: Command,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    if "wikitext" in arguments:
        (tmp_path / "text").mkdir()
        for name in ("train.txt", "valid.txt", "test.txt"):
            (tmp_path / "text" / name).write_text("the value of a list\n" * 9)
        arguments = [*arguments, "--data", str(tmp_path / "text")]
    code, said, err = pins(
        "prune", "--config", folder / "run.toml", "--out", tmp_path / "out", *arguments
    )
    assert (code, said) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_without_a_certifier_a_run_ends_without_a_certificate_and_says_so(
    folder: Path, tmp_path: Path
) -> None:
    hiding = tmp_path / "verification" / "__init__.py"
    hiding.parent.mkdir()
    hiding.touch()
    command = [sys.executable, "-m", "pins", "prune", "--config", str(folder / "run.toml")]
    command += ["--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("No certificate: ")]
    assert f"as verification.certificates.run:certify_run, and {hiding} hides" in line
    assert json.loads((tmp_path / "out" / "run.json").read_text())["certificate"] is None
    assert not (tmp_path / "out" / "certificate.json").exists()


def test_without_a_folder_there_is_no_run(pins: Command, folder: Path) -> None:
    code, _, err = pins("prune", "--config", folder / "run.toml")
    assert code == 2
    assert "give --out DIR" in err


def started(folder: Path, out: Path, steps: int | None = None, **given: Any) -> Run:
    """A run as the command line would begin it, stopped after so many steps."""
    values = {**read_settings(folder / "run.toml"), **given}
    return take(Run(Settings(**values), out), steps)


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """A write beyond so many bytes of a file fails as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("steps", [3, 12], ids=["in a checkpoint", "in the model"])
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    pins: Command, folder: Path, tmp_path: Path, steps: int
) -> None:
    out = tmp_path / "out"
    place = checkpoints.latest(started(folder, out, steps).out / "checkpoints")
    assert place is not None
    whole = {file.name: file.read_bytes() for file in place.iterdir()}
    command = ("prune", "--config", folder / "run.toml", "--out", out, "--resume")
    with little_room(20_000):
        code, _, err = pins(*command)
    assert code == 2
    assert "cannot be written" in err
    assert err.count("\n") == 1
    assert {file.name: file.read_bytes() for file in place.iterdir()} == whole
    assert not (out / "run.json").exists()
    assert pins(*command)[0] == 0
    assert_same_results(out, finished(pins, folder, tmp_path / "whole"))


def finished(pins: Command, folder: Path, out: Path) -> Path:
    """A run that nothing disturbed."""
    assert pins("prune", "--config", folder / "run.toml", "--out", out)[0] == 0
    return out


def assert_same_results(first: Path, second: Path) -> None:
    assert names(first) == names(second)
    for name in (*RESULTS, "certificate.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("written", [(), RESULTS[:2], (*RESULTS, "certificate.json", "README.md")])
def test_a_run_killed_while_its_results_were_written_ends_like_one_that_was_not(
    pins: Command, folder: Path, tmp_path: Path, written: tuple[str, ...]
) -> None:
    whole = finished(pins, folder, tmp_path / "whole")
    out = started(folder, tmp_path / "out").out
    for name in written:
        (out / name).write_bytes((whole / name).read_bytes())
    # and of the file in the making, a part
    for file in (".unfinished.x3a/masks.safetensors", ".unfinished-model/model.safetensors"):
        (out / file).parent.mkdir()
        (out / file).write_text("torn")
    code, said, err = pins("prune", "--config", folder / "run.toml", "--out", out, "--resume")
    assert (code, err) == (0, "")
    assert "Going on after step 12." in said
    assert_same_results(out, whole)


def test_a_run_that_is_done_is_not_another_run(pins: Command, folder: Path, tmp_path: Path) -> None:
    out = finished(pins, folder, tmp_path / "out")
    # killed between the last file and the removal of the checkpoints
    (out / "checkpoints" / "step-000012").mkdir(parents=True)
    before = (out / "run.json").read_bytes()
    again = ("prune", "--config", folder / "run.toml", "--out", out, "--resume")
    code, said, _ = pins(*again)
    assert code == 0
    assert "holds a run that is done" in said
    assert not (out / "checkpoints").exists()
    code, said, err = pins(*again, "--sparsity", "0.5")
    assert (code, said) == (2, "")
    assert "is done, and its sparsity is 0.75, not 0.5: give the same settings" in err
    assert (out / "run.json").read_bytes() == before


@pytest.mark.parametrize("at", ["a step", "a checkpoint", "the results"])
def test_stopped_from_the_keyboard_a_run_says_how_it_goes_on(
    pins: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    out = tmp_path / "out"
    owner: Any = {"a step": FineTuning, "a checkpoint": Run, "the results": sparse_format}[at]
    name = {"a step": "step", "a checkpoint": "checkpoint", "the results": "save"}[at]
    do, calls = getattr(owner, name), []

    def do_and_stop(*arguments: Any, **given: Any) -> Any:
        calls.append(do(*arguments, **given))
        if len(calls) == (1 if at == "the results" else 5):
            signal.raise_signal(signal.SIGINT)
        return calls[-1]

    command = ("prune", "--config", folder / "run.toml", "--out", out)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, do_and_stop)
        code, _, err = pins(*command)
    assert code == 130
    assert err == (
        "pins: stopped; the same command with --resume goes on from the last checkpoint\n"
    )
    place = checkpoints.latest(out / "checkpoints")
    assert place is not None
    assert place.name == {"a step": "step-000004", "a checkpoint": "step-000005"}.get(
        at, "step-000012"
    )
    assert not (out / "run.json").exists()
    assert pins(*command, "--resume")[0] == 0
    assert_same_results(out, finished(pins, folder, tmp_path / "whole"))


@pytest.mark.parametrize("damage", ["tensors.safetensors", "state.json"])
def test_a_torn_checkpoint_is_not_gone_on_from(
    pins: Command, folder: Path, tmp_path: Path, damage: str
) -> None:
    out = started(folder, tmp_path / "out", 2).out
    place = checkpoints.latest(out / "checkpoints")
    assert place is not None
    file = place / damage
    file.write_bytes(file.read_bytes()[:-40])
    before = sorted(out.rglob("*"))
    code, _, err = pins("prune", "--config", folder / "run.toml", "--out", out, "--resume")
    assert code == 2
    assert "torn" in err
    assert err.count("\n") == 1
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--sparsity", "0"], 4096),
        (["--sparsity", "1"], 0),
        (["--criterion", "authors", "--without-quirks", "biases"], 1025),
        (["--schedule", "one-shot", "--warmup", "11"], 1024),
        (["--interval", "100", "--evaluate-every", "100"], 1024),
        (["--precision", "float16"], 1024),
        (["--include", "attention.*weight", "--scope", "tensor"], 512),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_ends_of_what_can_be_asked_for_are_certified_too(
    pins: Command, folder: Path, tmp_path: Path, arguments: list[str], kept: int
) -> None:
    out = tmp_path / "out"
    command = ("prune", "--config", folder / "run.toml", "--out", out, *arguments)
    code, said, err = pins(*command)
    assert (code, err) == (0, "")
    assert f"{kept:,} of {2048 if 'tensor' in arguments else 4096:,} prunable weights" in said
    assert pins("check", out / "certificate.json")[0] == 0
    assert json.loads((out / "run.json").read_text())["costs"]["weights"]["kept"] == kept


def test_steps_and_epochs_are_one_thing_and_the_command_line_comes_first(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    text = (folder / "run.toml").read_text()
    config = tmp_path / "run.toml"
    for name, said, arguments, steps in (
        ("a", "steps = 12", ["--epochs", "1"], 57 // 4),
        ("b", "epochs = 3", ["--steps", "6"], 6),
        ("c", "epochs = 1", [], 57 // 4),
    ):
        config.write_text(text.replace("steps = 12", said))
        out = tmp_path / name
        code, _, err = pins("prune", "--config", config, "--out", out, *arguments)
        assert (code, err) == (0, "")
        assert json.loads((out / "run.json").read_text())["settings"]["steps"] == steps
    out = tmp_path / "both"
    code, _, err = pins("prune", "--config", config, "--out", out, "--steps", "3", "--epochs", "1")
    assert code == 2
    assert "epochs is 1 and steps 3: give one of them" in err


def test_the_folder_may_stand_in_the_file_and_the_table_fits_a_terminal(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'out = "{tmp_path / "out"}"\n' + (folder / "run.toml").read_text())
    code, said, _ = pins("prune", "--config", config)
    assert code == 0
    assert "…" not in said  # nothing is cut off in a pipe
    assert said.splitlines()[-1] == f"Model: {tmp_path / 'out'}"
    stream = io.StringIO()
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    Console(file=stream, width=80).print(result_table(facts))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    values = {line.split("  ")[0] for line in lines}
    assert values >= {"kept", "sparsity", "accuracy", "certificate", "packed file, bytes"}

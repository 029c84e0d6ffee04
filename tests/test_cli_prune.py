"""`pins prune`, `pins pack`, `pins unpack`, as somebody types them."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pins import checkpoints
from pins.cli import main
from tests.pins.runs import save_data, save_model

pytest.importorskip("transformers", reason="runs load transformers models")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pins", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data, and a file of settings."""
    folder = tmp_path_factory.mktemp("prune")
    save_model(folder / "model")
    save_data(folder / "data")
    (folder / "run.toml").write_text(
        f"""
        model = "{folder / "model"}"
        data = "{folder / "data"}"
        task = "sst2"
        steps = 12
        batch_size = 4
        learning_rate = 1e-3
        max_length = 16
        interval = 2
        sparsity = 0.75
        device = "cpu"
        """
    )
    return folder


def test_a_model_is_pruned_certified_and_described(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said, err = pins("prune", "--config", folder / "run.toml", "--out", out)
    assert (code, err) == (0, "")
    assert "1,024 of 4,096 prunable weights, exactly" in said
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
    code, _, err = pins("prune", "--config", folder / "run.toml", "--out", out)
    assert code == 2
    assert "give another folder" in err

    (out / "model.safetensors").rename(tmp_path / "dense.safetensors")
    code, said, _ = pins("unpack", out, "--out", tmp_path / "unpacked")
    assert code == 0
    dense = load_file(tmp_path / "dense.safetensors")
    unpacked = load_file(tmp_path / "unpacked" / "model.safetensors")
    assert all(torch.equal(tensor, unpacked[name]) for name, tensor in dense.items())


def test_options_come_before_the_file(pins: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--sparsity", "0.5", "--no-self-regularization", "--criterion", "obd"]
    code, said, _ = pins("prune", "--config", folder / "run.toml", "--out", out, *arguments)
    assert code == 0
    assert "2,048 of 4,096" in said
    facts = json.loads((out / "run.json").read_text())
    assert facts["settings"]["self_regularization"] is False
    assert facts["settings"]["criterion"] == "obd"


def test_a_minimum_that_binds_is_told_and_certified(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--criterion", "magnitude", "--smoothing", "none", "--minimum-kept", "0.24"]
    code, said, _ = pins("prune", "--config", folder / "run.toml", "--out", out, *arguments)
    assert code == 0
    assert "minimum binds" in said
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["version"] == 2
    assert certificate["claim"]["constraint"]["kind"] == "minimum-per-tensor"
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
        (["--device", "abacus"], "'abacus' is no device: give cuda, mps or cpu"),
        (["--precision", "float8"], "there is no precision 'float8': choose one of float32"),
        (["--include", "nothing"], "has no prunable weight"),
        (["--criterion", "obd", "--optimizer", "sgd"], "reads a diagonal curvature and SGD keeps"),
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


def test_without_a_folder_there_is_no_run(pins: Command, folder: Path) -> None:
    code, _, err = pins("prune", "--config", folder / "run.toml")
    assert code == 2
    assert "give --out DIR" in err


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pins", "prune", "--config", str(folder / "run.toml")]
    command += ["--checkpoint-every", "2", "--out", str(out)]

    def little_room() -> None:
        # a write beyond this fails as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=little_room
    )
    assert process.returncode == 2
    assert "cannot be written" in process.stderr
    assert process.stderr.count("\n") == 1
    assert checkpoints.latest(out / "checkpoints") is None
    assert not (out / "run.json").exists()

    # with room again it starts, and ends
    process = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("damage", ["tensors.safetensors", "state.json"])
def test_a_torn_checkpoint_is_not_gone_on_from(
    pins: Command, folder: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pins", "prune", "--config", str(folder / "run.toml")]
    stop_after_two = [*command, "--checkpoint-every", "2", "--evaluate-every", "1"]
    script = (
        "import sys; from pins import run; from pins.cli import main; old = run.Run.checkpoint\n"
        "def once(self):\n    old(self)\n    sys.exit(9)\n"
        "run.Run.checkpoint = once\nmain()"
    )
    subprocess.run(
        [sys.executable, "-c", script, *stop_after_two[3:], "--out", str(out)], check=False
    )
    place = checkpoints.latest(out / "checkpoints")
    assert place is not None
    file = place / damage
    file.write_bytes(file.read_bytes()[:-40])
    before = sorted(out.rglob("*"))
    code, _, err = pins(
        "prune", "--config", folder / "run.toml", "--out", out, "--resume", "--evaluate-every", "1"
    )
    assert code == 2
    assert "torn" in err
    assert err.count("\n") == 1
    assert sorted(out.rglob("*")) == before

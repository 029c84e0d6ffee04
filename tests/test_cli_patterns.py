"""`pins prune` with patterns and blocks, from the command to the proof."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pins import masks
from pins.errors import SettingError
from pins.runs.settings import Settings, read_settings
from tests.commands import Command
from tests.pins.runs.tiny_runs import save_run

pytest.importorskip("transformers", reason="runs load transformers models")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data, and a file of settings."""
    return save_run(
        tmp_path_factory.mktemp("patterns"),
        steps=6,
        measure=False,
        self_regularization=False,
        criterion="magnitude",
        smoothing="none",
    )


def test_a_run_to_2_4_ends_with_a_proof_that_the_checker_alone_confirms(
    pins: Command, folder: Path, tmp_path: Path
) -> None:
    out, config = tmp_path / "out", tmp_path / "run.toml"
    config.write_text((folder / "run.toml").read_text() + 'pattern = "2:4"\n')
    code, said, err = pins("prune", "--config", config, "--out", out)
    assert (code, err) == (0, "")
    assert "exactly 2 of each 4 consecutive inputs of an output are kept" in said
    assert "1,024 groups, each keeps 2." in said
    assert "2 of each of the runs of 4 (1,024)" in said
    for mask in masks.load(out / "masks.safetensors").values():
        assert (mask.view(-1, 4).sum(1) == 2).all()
    facts = json.loads((out / "run.json").read_text())
    assert (facts["settings"]["sparsity"], facts["settings"]["pattern"]) == (None, "2:4")
    assert facts["allocation"]["groups"] == {"number": 1024, "least": 2, "most": 2}
    kept = [(each["pattern"], each["keep"]) for each in facts["decisions"]]
    assert kept[-1] == ("2:4", 2048)
    assert kept == sorted(kept, reverse=True)
    card = (out / "README.md").read_text()
    assert "Exactly 2:4 was asked for. " in card.replace("\n\n", " ")
    assert "- n-m-sparsity\n" in card
    checker = [sys.executable, str(ROOT / "verification" / "checker.py")]
    done = subprocess.run([*checker, str(out / "certificate.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exactly 2 of each run of 4" in done.stdout
    again = pins("prune", "--config", config, "--out", out, "--resume")
    assert (again[0], again[2]) == (0, "")
    # a mask with as many weights of another pattern is refuted
    broken = masks.load(out / "masks.safetensors")
    first = next(iter(broken))
    broken[first] = torch.ones_like(broken[first])
    (out / "masks.safetensors").unlink()
    masks.save(broken, out / "masks.safetensors")
    done = subprocess.run([*checker, str(out / "certificate.json")], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "said", "proof"),
    [
        (
            ("--block", "1x4"),
            "Blocks of 1 × 4 (outputs × inputs) are kept or pruned whole: 205 of 1,024",
            "the mask keeps exactly 205 of 1024 blocks of 1 × 4 in ",
        ),
        (
            ("--pattern", "transposable-4:8"),
            "is optimal among masks with 4 of each row and column of 8 × 8 squares (64)",
            "exactly 4 of each row and column of 8 × 8 squares has a larger score sum",
        ),
    ],
)
def test_blocks_and_transposable_patterns_end_with_a_proof(
    pins: Command, folder: Path, tmp_path: Path, options: tuple[str, ...], said: str, proof: str
) -> None:
    out = tmp_path / "out"
    code, printed, err = pins("prune", "--config", folder / "run.toml", "--out", out, *options)
    assert (code, err) == (0, "")
    assert said in printed
    assert "No certificate" not in printed
    sentence = json.loads((out / "run.json").read_text())["certificate"]["sentence"]
    assert sentence[1:] in (out / "README.md").read_text()
    code, printed, _ = pins("check", out / "certificate.json")
    assert code == 0
    assert proof in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--minimum-kept", "0.1"), "--minimum-kept is called --layer-minimum now: give that"),
        (("--pattern", "2:4", "--sparsity", "0.3"), "2:4 keeps at most 0.5 of the weights"),
        (("--pattern", "2:4", "--scope", "row"), "leave scope and bounds of layers out"),
        (("--pattern", "2:4", "--block", "1x4"), "give one of them"),
        (("--pattern", "3:7"), "has rows of 16 weights, which 7 does not divide"),
        (("--pattern", "2:4", "--criterion", "authors"), "leave scope, bounds, pattern and block"),
        (("--pattern", "transposable-4:8", "--sparsity", "0.5"), "leave the sparsity out"),
        (("--block", "3x3"), "blocks of 3 × 3 do not divide"),
        (("--skip-indivisible",), "belong to a pattern: give one"),
    ],
)
def test_contradictions_are_one_line_and_nothing_is_written(
    pins: Command, folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    config = folder / "run.toml"
    if "authors" in arguments:
        text = config.read_text().replace('smoothing = "none"', "")
        config = tmp_path / "run.toml"
        config.write_text(text)
    out = tmp_path / "out"
    code, said, err = pins("prune", "--config", config, "--out", out, *arguments)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not out.exists()


def test_a_file_has_the_same_names_and_old_ones_are_told(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'pattern = "8:16"\nskip_indivisible = true\nlayer_minimum = 0\nlayer_maximum = 1\n'
    )
    asked = Settings(**read_settings(file)).pruning_allocation()
    assert (asked.pattern, asked.exactly, asked.skip_indivisible) == ("8:16", True, True)
    file.write_text("minimum_kept = 0.1\n")
    with pytest.raises(SettingError, match="sets minimum_kept, which is called layer_minimum now"):
        read_settings(file)


def test_without_a_pattern_the_sparsity_is_eight_tenths() -> None:
    assert Settings().final_sparsity() == Settings().as_json()["sparsity"] == 0.8
    assert Settings(pattern="2:4").as_json()["sparsity"] is None

"""A command that fails on a full disk leaves nothing, and the same command works afterwards."""

import re
from pathlib import Path

import pytest
import torch

from pins import masks
from pins.models.parameters import prunable_parameters
from pins.models.weight_files import WEIGHTS
from pins.utils.io import load_tensors, save_tensors
from tests.commands import Command
from tests.full_disk import files_of_at_most
from tests.tiny_model import save_tiny_bert
from verification.certificates.selection import save_scores


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def assert_all_or_nothing(
    pins: Command, folder: Path, size: int, arguments: tuple[object, ...], written: set[str]
) -> None:
    before = contents(folder)
    with files_of_at_most(size):
        code, _, err = pins(*map(str, arguments))
    assert code == 2
    assert re.search("cannot be written: .*File too large", err.splitlines()[-1])
    assert contents(folder) == before
    assert pins(*map(str, arguments))[0] == 0
    assert contents(folder).keys() - before.keys() == written


@pytest.mark.parametrize("size", [100, 400], ids=["in the mask", "in the certificate"])
@pytest.mark.parametrize("more", [(), ("--cost", "c.safetensors", "--radius", "9.5")])
def test_certify_leaves_no_mask(
    pins: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = {"a": torch.arange(16.0).reshape(4, 4)}
    save_scores(scores, Path("s.safetensors"))
    save_scores({"a": scores["a"].flip(0).flip(1) + 0.5}, Path("c.safetensors"))
    arguments = ("certify", "s.safetensors", "--keep", "13", "--out", "new.json", *more)
    assert_all_or_nothing(pins, tmp_path, size, arguments, {"new.json", "new.mask.safetensors"})


def test_a_mask_that_was_given_stays(pins: Command, tmp_path: Path) -> None:
    scores, mask = tmp_path / "s.safetensors", tmp_path / "m.safetensors"
    save_scores({"a": torch.arange(16.0)}, scores)
    masks.save({"a": torch.arange(16.0) > 10}, mask)
    arguments = ("certify", scores, "--keep", 5, "--mask", mask, "--out", tmp_path / "new.json")
    assert_all_or_nothing(pins, tmp_path, 400, arguments, {"new.json"})


def test_pack_leaves_no_torn_file(pins: Command, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the model is one of transformers")
    from transformers import AutoModel

    folder = save_tiny_bert(tmp_path)
    names = prunable_parameters(AutoModel.from_pretrained(folder)).parameters.keys()
    tensors, metadata = load_tensors(folder / WEIGHTS)
    kept = {name: tensors[name] > 0 for name in names}
    pruned = {n: torch.where(kept[n], t, 0.0) if n in kept else t for n, t in tensors.items()}
    save_tensors(pruned, folder / WEIGHTS, {"format": metadata["format"]})
    masks.save(kept, folder / "masks.safetensors")
    assert_all_or_nothing(pins, tmp_path, 9000, ("pack", folder), {"packed.safetensors"})


def test_verify_leaves_no_torn_ledger(
    pins: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verification.claims import ALL_CLAIMS, command

    monkeypatch.setattr(command, "ALL_CLAIMS", ALL_CLAIMS[:1])
    arguments = ("verify", "--out", tmp_path / "ledger.json")
    assert_all_or_nothing(pins, tmp_path, 300, arguments, {"ledger.json"})


def test_plot_leaves_no_torn_figure(pins: Command, tmp_path: Path, prune_folder: Path) -> None:
    pytest.importorskip("matplotlib", reason="the figures are drawn by matplotlib")
    arguments = ("plot", "schedule", "--from", prune_folder, "--out", tmp_path / "schedule.svg")
    assert_all_or_nothing(pins, tmp_path, 3000, arguments, {"schedule.svg"})

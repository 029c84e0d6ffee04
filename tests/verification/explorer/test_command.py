"""`pins explore`, as somebody types it."""

from pathlib import Path

import pytest

from tests.commands import Command

explorer = pytest.importorskip("verification.explorer", reason="the page is a Jinja template")


def test_a_demo_has_its_explorer_and_the_command_makes_the_same(
    pins: Command, demo_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    code, said, err = pins("explore", demo_folder, "--out", out)
    assert (code, said, err) == (0, f"{out}\n", "")
    assert out.read_text() == (demo_folder / "explorer.html").read_text()
    assert 'href="explorer.html"' in (demo_folder / "index.html").read_text()
    assert pins("explore", demo_folder, "--out", out)[0] == 0  # takes the place of an earlier one


def test_a_pruned_model_has_one_too(pins: Command, prune_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert pins("explore", prune_folder, "--out", out)[0] == 0
    assert explorer.MARK in out.read_text()


def test_something_else_is_not_written_over(
    pins: Command, demo_folder: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "thesis.html"
    precious.write_bytes(b"precious \xff")
    code, _, err = pins("explore", demo_folder, "--out", precious)
    assert code == 2
    assert "thesis.html exists and is no explorer: give another --out" in err
    assert err.count("\n") == 1
    assert precious.read_bytes() == b"precious \xff"
    code, _, err = pins("explore", tmp_path)
    assert code == 2
    assert "holds no sample.safetensors: give the folder of a run" in err
    code, _, err = pins("explore", demo_folder, "--out", tmp_path)
    assert code == 2
    assert err.count("\n") == 1

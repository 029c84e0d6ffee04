"""What a killed process left unfinished goes with the next write; what a living one holds stays."""

from pathlib import Path

from pins.utils.io import atomic, write_text


def test_a_write_removes_what_nobody_holds_and_nothing_else(tmp_path: Path) -> None:
    mine = [tmp_path / ".file.swp", tmp_path / ".unfinished.txt"]  # of an editor; no folder
    for file in mine:
        file.write_text("mine")
    killed = tmp_path / ".unfinished.a_b1"
    killed.mkdir()
    (killed / "file").write_text("half")
    with atomic(tmp_path / "file") as temporary:
        assert not killed.exists()
        temporary.write_text("new")
        (temporary.parent / ".of-a-library").write_text("")
        write_text("other", tmp_path / "other")
        assert temporary.read_text() == "new"  # its writer lives
    assert sorted(tmp_path.iterdir()) == [*mine, tmp_path / "file", tmp_path / "other"]

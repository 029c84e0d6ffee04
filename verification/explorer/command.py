"""`pins explore`: the explorer of a run's weights, written into its folder."""

from pathlib import Path

from pins.errors import FileError
from pins.utils.text_files import read_text
from verification import explorer
from verification.experiments.run_reader import RunData


def run_explore(folder: Path, out: Path | None) -> Path:
    """Write the page of a run, and return its path.

    Args:
        folder: the folder of a run of `pins demo` or `pins prune`.
        out: the page; default: explorer.html in the folder.

    Raises:
        FileError: the run left no sample of its weights, or `out` is another file.
    """
    file = out or folder / explorer.FILE
    sample = RunData(folder).sample
    if file.exists() and not _is_explorer(file):
        raise FileError(f"{file} exists and is no explorer: give another --out")
    return explorer.write(sample, file)


def _is_explorer(file: Path) -> bool:
    try:
        return explorer.MARK in read_text(file)
    except FileError:
        return False

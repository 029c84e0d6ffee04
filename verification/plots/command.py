"""`pins plot`: write one figure of a run to a file or all of them to a folder, or list them."""

from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pins.errors import FileError, PinsError, SettingError
from pins.utils.output import make_console, print_json
from pins.utils.text_files import reading
from verification import plots
from verification.experiments.run_reader import RunData
from verification.plots.registry import FIGURES, find_figure

ALL = "all"


def run_plot(console: Console, name: str, folder: Path, out: Path | None) -> int:
    """Draw the figure of that name, or every figure for which the run has the data.

    Args:
        console: where to print.
        name: the name of a figure, or "all".
        folder: the folder of the run.
        out: the file; for "all" the folder.

    Returns:
        0 if a figure was written; 2 if the run has data for none of them.

    Raises:
        PinsError: no figure has this name, the run lacks its data, or `out` is another file.
    """
    if out is None:
        raise SettingError("the figure has no file: give --out FILE")
    if name == ALL:
        return _draw_all(console, RunData(folder), out)
    entry = find_figure(name)
    plots.require_figure(out)
    run = RunData(folder)
    with _drawing(run):
        content = plots.rendered(entry.draw(run), out.suffix, name)
    plots.write(content, out)
    console.print(f"{out}: {entry.title}\n\n{entry.caption}", highlight=False, markup=False)
    return 0


def _drawing(run: RunData) -> AbstractContextManager[None]:
    # figures are drawn from values of JSON: one of another type is an error of the file
    return reading(f"{run.folder} holds values that cannot be drawn")


def _draw_all(console: Console, run: RunData, out: Path) -> int:
    if out.exists() and not out.is_dir():
        raise FileError(f"{out} is a file: give a folder for the figures")
    drawn = 0
    for name, entry in FIGURES.items():
        file = out / f"{name}.svg"
        try:
            plots.require_figure(file)
            with _drawing(run):
                content = plots.rendered(entry.draw(run), file.suffix, name)
        except PinsError as error:
            console.print(f"left out: {name}: {error}", highlight=False, markup=False)
            continue
        plots.write(content, file)
        console.print(f"{file}: {entry.title}", highlight=False, markup=False)
        drawn += 1
    return 0 if drawn else 2


def list_figures(*, json: bool) -> None:
    """Print the name and the title of each figure, and the commands that write its data."""
    if json:
        rows = [{"name": n, "title": e.title, "source": e.source} for n, e in FIGURES.items()]
        return print_json({"figures": rows})
    table = Table("figure", "what it shows", "--from a folder of", box=None, pad_edge=False)
    for name, entry in FIGURES.items():
        table.add_row(name, entry.title, entry.source)
    return make_console().print(table)

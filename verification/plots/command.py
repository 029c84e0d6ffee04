"""`pins plot`: one figure of a run into a file, all of them into a folder, or their list."""

from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pins.errors import FileError, SettingError
from pins.utils.output import make_console, print_json
from pins.utils.text_files import reading
from verification import plots
from verification.experiments.run_reader import RunData
from verification.plots.registry import FIGURES, find_figure

ALL = "all"


def run_plot(console: Console, name: str, folder: Path, out: Path | None) -> int:
    """Draw the figure of that name, or each for which the run has what it takes.

    Args:
        console: to print on.
        name: of a figure, or "all".
        folder: of the run.
        out: the file, or for "all" the folder.

    Returns:
        0: it is written; 2: for "all", the run has data for no figure.

    Raises:
        PinsError: there is no such figure, the run lacks what it is drawn from, or `out` is taken.
    """
    if out is None:
        raise SettingError("there is no file for the figure: give --out FILE")
    if name == ALL:
        return _draw_all(console, RunData(folder), out)
    entry = find_figure(name)
    plots.require_figure(out)
    run = RunData(folder)
    with _drawing(run):
        figure = entry.draw(run)
    plots.save(figure, out, name)
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
                figure = entry.draw(run)
        except FileError as error:
            console.print(f"left out: {name}: {error}", highlight=False, markup=False)
            continue
        plots.save(figure, file, name)
        console.print(f"{file}: {entry.title}", highlight=False, markup=False)
        drawn += 1
    return 0 if drawn else 2


def list_figures(*, json: bool) -> None:
    """Print each figure, its title, and whose folder it is drawn from."""
    if json:
        rows = [
            {"name": name, "title": entry.title, "source": entry.source}
            for name, entry in FIGURES.items()
        ]
        return print_json({"figures": rows})
    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "what it shows", "--from a folder of"):
        table.add_column(heading)
    for name, entry in FIGURES.items():
        table.add_row(name, entry.title, entry.source)
    return make_console().print(table)

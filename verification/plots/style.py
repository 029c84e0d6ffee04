"""How figures look, and how they become files; colours of Okabe and Ito, for all eyes."""

import io
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pins.errors import FileError
from pins.utils.io import atomic

COLOURS = {
    "pins": "#D55E00",
    "movement": "#E69F00",
    "abs-pins": "#CC79A7",
    "sensitivity": "#56B4E9",
    "magnitude": "#000000",
    "obd": "#009E73",
    "step alone": "#999999",
    "platon": "#0072B2",
    "trust-region": "#8000E0",  # theirs are used up: the one farthest from them, for all eyes
}
MARKERS = {
    "pins": "o",
    "movement": "x",
    "abs-pins": "^",
    "sensitivity": "v",
    "magnitude": "s",
    "obd": "D",
    "platon": "P",
    "trust-region": "*",
}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files that can be searched
}


SUFFIXES = (".svg", ".png", ".pdf")
MARK = "pins figure"  # in the metadata of every file, so that one may take the place of another
DOTS_PER_INCH = 200  # of PNG files
DOTS_IN_DRAWINGS = 130  # of what would be thousands of elements in the others


def save(figure: Figure, file: Path, name: str) -> None:
    """Write the figure, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: to write.
        file: ends in .svg, .png or .pdf.
        name: of the figure, which its metadata say.

    Raises:
        FileError: it ends in something else, or holds what no figure of PINS has written.
    """
    require_figure(file)
    title = f"{MARK} {name}"
    metadata: dict[str, Any] = {"Title": title}
    if file.suffix != ".png":  # a date would make other bytes each time
        metadata["Date" if file.suffix == ".svg" else "CreationDate"] = None
    look = {**STYLE, "svg.hashsalt": name, "pdf.fonttype": 42, "font.size": 10}
    with atomic(file) as temporary, mpl.rc_context(look):
        dpi = DOTS_PER_INCH if file.suffix == ".png" else DOTS_IN_DRAWINGS
        figure.savefig(temporary, format=file.suffix[1:], metadata=metadata, dpi=dpi)


def require_figure(file: Path) -> None:
    """Refuse a path at which no figure is to be written.

    Raises:
        FileError: as `save`.
    """
    if file.suffix not in SUFFIXES:
        raise FileError(f"{file} is no name for a figure: let it end in {', '.join(SUFFIXES)}")
    if file.is_dir():
        raise FileError(f"{file} is a folder: give a file for the figure")
    if file.exists() and MARK.encode() not in file.read_bytes():
        raise FileError(f"{file} exists and is no figure of PINS: give another path")


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, for a page; the same input gives the same text.

    The name goes into the element's ids, so that several figures can share a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def scientific(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    """Ticks as multiples of one power of ten, which stands at the end of the axis."""
    axes.ticklabel_format(axis=which, style="sci", scilimits=(-3, 4), useMathText=True)

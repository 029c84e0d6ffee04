"""The look of figures, and their files; colours of Okabe and Ito, which all eyes tell apart."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, PercentFormatter

from pins.errors import FileError
from pins.utils.io import atomic

Row = Mapping[str, Any]
P = ParamSpec("P")

GREY = "#555555"
LOOKS: Mapping[str, tuple[str, str]] = {
    "pins": ("#D55E00", "o"),
    "movement": ("#E69F00", "x"),
    "abs-pins": ("#CC79A7", "^"),
    "sensitivity": ("#56B4E9", "v"),
    "magnitude": ("#000000", "s"),
    "obd": ("#009E73", "D"),
    "step alone": ("#999999", "."),
    "platon": ("#0072B2", "P"),
    "trust-region": ("#8000E0", "*"),  # the palette has no colour left: this one is the farthest
}
"""Criterion → its colour and its marker."""
COLOURS = {name: colour for name, (colour, _) in LOOKS.items()}
# all settings of matplotlib, so that a user's matplotlibrc changes no figure
STYLE: Any = {
    **{name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"},
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text: small files that can be searched
}

SUFFIXES = (".svg", ".png", ".pdf")
MARK = "pins figure"  # in the metadata of every file: such a file may be overwritten
DOTS_PER_INCH = 200  # PNG files
DOTS_IN_DRAWINGS = 130  # rasterized parts of SVG and PDF files, instead of thousands of elements


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A figure in the style of PINS; a name with `$` in it is text, not a formula."""

    @wraps(draw)
    def drawn(*given: P.args, **named: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*given, **named)
            for axes in figure.axes:
                _take_literally(axes)
            for legend in figure.legends:
                _no_formulas(legend.get_texts())
            return figure

    return drawn


def _take_literally(axes: Axes) -> None:
    """Title, labels and annotations, and ticks with texts; ticks of numbers are formulas."""
    _no_formulas([axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts])
    if legend := axes.get_legend():
        _no_formulas(legend.get_texts())
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), FixedLocator):
            _no_formulas(axis.get_ticklabels())


def _no_formulas(texts: Iterable[Text]) -> None:
    for text in texts:
        text.set_parse_math(False)


def panels(
    width: float, height: float, down: int = 1, across: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of that size in inches, and its axes row by row."""
    figure = Figure(figsize=(width, height))
    return figure, list(figure.subplots(down, across, squeeze=False, **options).flat)


def save(figure: Figure, file: Path, name: str) -> None:
    """Write the figure atomically; the same figure gives the same bytes.

    Args:
        figure: the figure to write.
        file: its path, ending in .svg, .png or .pdf.
        name: the figure's name, written into the metadata.

    Raises:
        FileError: the path has another ending, or a file that is no figure of PINS exists there.
    """
    require_figure(file)
    write(rendered(figure, file.suffix, name), file)


def rendered(figure: Figure, suffix: str, name: str) -> bytes:
    """The content of a file with the figure, of the kind that ends in .svg, .png or .pdf."""
    title = f"{MARK} {name}"
    metadata: dict[str, Any] = {"Title": title}
    if suffix != ".png":  # a date would make other bytes each time
        metadata["Date" if suffix == ".svg" else "CreationDate"] = None
    buffer = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name, "pdf.fonttype": 42}):
        dpi = DOTS_PER_INCH if suffix == ".png" else DOTS_IN_DRAWINGS
        figure.savefig(buffer, format=suffix[1:], metadata=metadata, dpi=dpi)
    return buffer.getvalue()


def write(content: bytes, file: Path) -> None:
    """Write what was rendered to a file, atomically."""
    with atomic(file) as temporary:
        temporary.write_bytes(content)


def require_figure(file: Path) -> None:
    """Refuse a path to which `save` would not write.

    Raises:
        FileError: as `save`.
    """
    if file.suffix not in SUFFIXES:
        raise FileError(f"{file} is no name for a figure: end it in one of {', '.join(SUFFIXES)}")
    if file.is_dir():
        raise FileError(f"{file} is a folder: give a file for the figure")
    if file.exists() and not (file.is_file() and MARK.encode() in file.read_bytes()):
        raise FileError(f"{file} exists and is no figure of PINS: give another path")


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element for a page; the same input gives the same text.

    The ids of the element depend on the name, so several figures can share a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def columns(rows: Iterable[Row], *fields: str) -> list[list[Any]]:
    """One list for each field: its values in all rows."""
    together = list(rows)
    return [[row[field] for row in together] for field in fields]


def look(name: str) -> dict[str, Any]:
    """Label, colour and marker of a criterion; an unknown one has the next colour and a dot."""
    colour, marker = LOOKS.get(name, (None, "."))
    return {"label": name, "color": colour, "marker": marker}


def in_per_cent(*axis: Axis) -> None:
    """Ratios as whole per cents at the ticks of each axis."""
    for each in axis:
        each.set_major_formatter(PercentFormatter(1.0, decimals=0))


def scientific(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    """Ticks are multiples of one power of ten, which stands at the end of the axis."""
    axes.ticklabel_format(axis=which, style="sci", scilimits=(-3, 4), useMathText=True)


def shared_legend(figure: Figure, panels: Iterable[Axes], **options: Any) -> None:
    """A legend beside the panels with each of their labels once; no legend without labels."""
    labelled: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    if labelled:
        where = {"loc": "outside right upper", **options}
        figure.legend(list(labelled.values()), list(labelled), **where)


def heat_map(axes: Axes, cells: Sequence[Sequence[float]], label: str) -> None:
    """Ratios in [0, 1] as coloured cells, with a colour bar in per cent."""
    image = axes.imshow(
        cells, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are made by their figure"
    figure.colorbar(image, ax=axes, format=PercentFormatter(1.0, decimals=0)).set_label(label)

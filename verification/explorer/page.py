"""The page: sample, style and scripts in one file of HTML that asks nothing of any network.

The scripts are one module, joined in the order of `SCRIPTS`: each file uses what stands before it.
"""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pins.runs.weight_sample import WeightSample
from pins.utils.io import write_text
from verification.explorer.data import data

FOLDER = Path(__file__).parent
FILE = "explorer.html"  # in the folder of a run
# by which a page is known, so that one may take the place of another
MARK = '<meta name="generator" content="PINS explorer">'
TITLE = "A pruning decision to explore"
TEMPLATE = "page.html.j2"
STYLE = "style.css"
SCRIPTS = (
    "floats.js",
    "format.js",
    "data.js",
    "criteria.js",
    "program.js",
    "decision.js",
    "certificate.js",
    "charts.js",
    "mask.js",
    "downloads.js",
    "twelve.js",
    "page.js",
)


def page(sample: WeightSample, *, title: str | None = None) -> str:
    """The HTML; of the same sample the same text.

    Args:
        sample: what the page lets explore.
        title: of the page; the description of the sample stands below it.

    Raises:
        ImportanceError: a number of the sample is not finite, or it holds none.
    """
    known = data(sample)
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        mark=MARK,
        title=title or TITLE,
        sample=sample,
        layers=known["layers"],
        style=_asset(STYLE),
        script="\n".join(map(_asset, SCRIPTS)),
        data=_inert(known),
    )


def write(sample: WeightSample, out: Path, *, title: str | None = None) -> Path:
    """Write the page to `out`, whole or not at all; the path of the page.

    Raises:
        ImportanceError: as `page`.
        FileError: `out` cannot be written, as where it is a folder.
    """
    write_text(page(sample, title=title), out)
    return out


def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _inert(value: object) -> str:
    """JSON without `<`, so that no name in it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

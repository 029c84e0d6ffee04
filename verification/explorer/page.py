"""The page: sample, style and scripts in one HTML file that makes no network request.

The scripts are joined in the order of `SCRIPTS` into one module: a file may use those before it.
"""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pins.runs.weight_sample import WeightSample
from pins.utils.io import write_text
from verification.explorer.data import data

FOLDER = Path(__file__).parent
FILE = "explorer.html"  # in the folder of a run
# in a page of the explorer: such a file may be overwritten
MARK = '<meta name="generator" content="PINS explorer">'
TITLE = "A pruning decision to explore"
TEMPLATE = "page.html.j2"
STYLE = "style.css"
SCRIPTS = (
    "floats.js", "format.js", "data.js", "criteria.js", "bounds.js", "program.js", "decision.js",
    "certificate.js", "charts.js", "nodes.js", "mask.js", "downloads.js", "twelve.js", "page.js",
)  # fmt: skip


def environment(folder: Path) -> Environment:
    """The templates of a folder: they escape the values, and refuse a missing variable."""
    loader, undefined = FileSystemLoader(folder), StrictUndefined
    return Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )


def page(sample: WeightSample) -> str:
    """The HTML; the same sample gives the same text.

    Raises:
        ImportanceError: a number of the sample is not finite, or the sample is empty.
    """
    known = data(sample)
    shown = {"mark": MARK, "title": TITLE, "sample": sample, "layers": known["layers"]}
    shown |= {"style": _asset(STYLE), "script": "\n".join(map(_asset, SCRIPTS))}
    return environment(FOLDER).get_template(TEMPLATE).render(**shown, data=_inert(known))


def write(sample: WeightSample, out: Path) -> Path:
    """Write the page to `out` atomically, and return `out`.

    Raises:
        ImportanceError: as `page`.
        FileError: `out` cannot be written.
    """
    write_text(page(sample), out)
    return out


def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _inert(value: object) -> str:
    """JSON without `<`: no name in it can end the script element or begin a comment."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

"""The gallery of the documents: every figure of `pins plot`, drawn from the committed results.

    python -m benchmarks.documents.gallery

Writes docs/gallery/NAME.svg and the page docs/gallery.md; a test compares page and figures.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.results import RESULTS
from pins.utils.io import write_text
from verification import plots
from verification.experiments.run_reader import RunData
from verification.plots.registry import FIGURES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gallery.md"
FOLDER = ROOT / "docs" / "gallery"
# folder of a figure's results, by the command that makes them
SOURCES: Mapping[str, Path] = {
    "pins demo": RESULTS / "demo",
    "pins prune": RESULTS / "prune-abs-pins",
}
# folders of figures that need a run with another criterion
OWN: Mapping[str, Path] = {"survival": RESULTS / "prune-pins"}

HEAD = """# Gallery

Every figure of `pins plot`, drawn from runs whose results are in
[benchmarks/results](../benchmarks/README.md): that of `make demo`, two of `pins prune`, one with
self-regularisation and one without, and benchmarks. Of a run of your own:

    pins plot                                            # which figures there are
    pins plot multiplier-path --from report --out valley.pdf
    pins plot all --from report --out figures

No number in them stands in the code. This page is written by
`python -m benchmarks.documents.gallery`."""


def page() -> str:
    """The page: title, picture, caption and command of each figure."""
    parts = [HEAD]
    for name, entry in FIGURES.items():
        command = f"pins plot {name} --from {source(name).relative_to(ROOT)} --out {name}.svg"
        parts.append(
            f"## {entry.title}\n\n![{entry.title}](gallery/{name}.svg)\n\n{entry.caption}\n\n"
            f"    {command}"
        )
    return "\n\n".join(parts) + "\n"


def source(name: str) -> Path:
    """The results from which the gallery draws a figure."""
    first = FIGURES[name].source.partition(",")[0]
    return OWN.get(name) or SOURCES.get(first, RESULTS)


def main() -> None:
    """Draw all figures and write the page."""
    for name, entry in FIGURES.items():
        plots.save(entry.draw(RunData(source(name))), FOLDER / f"{name}.svg", name)
    write_text(page(), PAGE)


if __name__ == "__main__":
    main()

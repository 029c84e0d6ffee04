"""The gallery of the documents: every figure of `pins plot`, from the runs in the results folder.

    python -m benchmarks.gallery

Writes docs/gallery/NAME.svg and the page docs/gallery.md; a test holds the page to the figures.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.results_file import RESULTS
from benchmarks.run_results import DEMO, PRUNE
from pins.files import write_text
from verification import plots
from verification.figures import FIGURES, Entry
from verification.run_data import RunData

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gallery.md"
FOLDER = ROOT / "docs" / "gallery"
# whose folder a figure is drawn from, by the first of the commands that make one
SOURCES: Mapping[str, Path] = {"pins demo": DEMO, "pins prune": PRUNE}

HEAD = """# Gallery

Every figure of `pins plot`, drawn from runs whose results are in
[benchmarks/results](../benchmarks/README.md): that of `make demo`, one of `pins prune` with
self-regularisation, and benchmarks. Of a run of your own:

    pins plot                                            # which figures there are
    pins plot multiplier-path --from report --out valley.pdf
    pins plot all --from report --out figures

No number in them stands in the code. This page is written by `python -m benchmarks.gallery`."""


def page() -> str:
    """The page: of each figure its title, the picture, what to see, and the command."""
    parts = [HEAD]
    for name, entry in FIGURES.items():
        command = f"pins plot {name} --from {source(entry).relative_to(ROOT)} --out {name}.svg"
        parts.append(
            f"## {entry.title}\n\n![{entry.title}](gallery/{name}.svg)\n\n{entry.caption}\n\n"
            f"    {command}"
        )
    return "\n\n".join(parts) + "\n"


def source(entry: Entry) -> Path:
    """The results that a figure is drawn from here."""
    return SOURCES.get(entry.source.partition(",")[0], RESULTS)


def main() -> None:
    """Draw all and write the page."""
    for name, entry in FIGURES.items():
        plots.save(entry.draw(RunData(source(entry))), FOLDER / f"{name}.svg", name)
    write_text(page(), PAGE)


if __name__ == "__main__":
    main()

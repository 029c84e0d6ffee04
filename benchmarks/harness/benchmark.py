"""A benchmark's run: start or resume a results file, measure what is missing, render."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from benchmarks.harness.results import Document, Paths, Row, read, without_paths
from pins.errors import FileError
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots

K = TypeVar("K")


def new_document(settings: Mapping[str, Any], paths: Paths, **more: Any) -> Document:
    """A results file without rows: settings, provenance, and the fields in `more`.

    Args:
        settings: rows measured with other settings are not mixed with these.
        paths: folders that the command line names, by the word that replaces them.
        more: further fields.
    """
    made = provenance()
    made["command"] = without_paths(made["command"], paths)
    return {**more, "settings": dict(settings), "provenance": made, "rows": []}


def resume(file: Path, document: Document) -> Document:
    """Put the rows of an earlier, interrupted run into the document, and return it.

    Raises:
        FileError: the file holds results of other settings or versions.
    """
    if file.exists():
        earlier = read(file)
        versions = earlier.get("provenance", {}).get("versions")
        for what, now, then in (
            ("settings", document["settings"], earlier.get("settings")),
            ("versions", document["provenance"]["versions"], versions),
        ):
            if json.loads(json.dumps(now)) != then:
                raise FileError(
                    f"{file} holds results of other {what}: move it, or give another --out"
                )
        document["rows"] = earlier["rows"]
    return document


def complete(
    document: Document,
    file: Path,
    wanted: Sequence[K],
    key: Callable[[Row], K],
    measure: Callable[[K], tuple[list[dict[str, Any]], str]],
    *,
    minutes: float | None = None,
    what: str = "runs",
) -> None:
    """Measure every wanted key that has no row; write the file after each.

    Args:
        document: rows are added to it.
        file: of the results.
        wanted: keys in the order in which they are measured.
        key: the key of a row.
        measure: key ↦ its rows, and one line about them.
        minutes: after these no further key is measured; None: no limit.
        what: noun for the keys.
    """
    done = {key(row) for row in document["rows"]}
    begun = time.monotonic()
    for number, each in enumerate(wanted, start=1):
        if each in done:
            continue
        start = time.monotonic()
        if minutes is not None and start - begun >= 60 * minutes:
            print(f"{minutes:g} minutes are over: {len(set(wanted) - done)} {what} are left")
            return
        rows, said = measure(each)
        document["rows"] += rows
        done.add(each)
        write_json(document, file)
        took = time.monotonic() - start
        print(f"{number}/{len(wanted)} {said} ({took:.0f} s)", flush=True)


def render(
    file: Path,
    table: Callable[[Document], str],
    figure: Callable[[Document], Figure] | None = None,
) -> str:
    """Write table and figure from the results file alone; return the table's text.

    Raises:
        FileError: the results file has no rows.
    """
    document = read(file)
    if not document["rows"]:
        raise FileError(f"{file} holds no rows yet: measure first")
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    if figure is not None:
        write_text(plots.svg(figure(document), file.stem), file.with_suffix(".svg"))
    return text

"""A benchmark's run: start or resume a results file, measure what is missing, render."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.results import Document, Paths, Row, read, without_paths
from pins.errors import FileError
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots


def new_document(settings: Mapping[str, Any], paths: Paths, **more: Any) -> Document:
    """A results file without rows: settings, provenance, and the fields in `more`.

    Args:
        settings: rows measured with other settings are not mixed with these.
        paths: folders named on the command line, by the word that replaces them.
        more: further fields.
    """
    made = provenance()
    made["command"] = without_paths(made["command"], paths)
    return {**more, "settings": dict(settings), "provenance": made, "rows": []}


def resume(file: Path, document: Document) -> Document:
    """Put rows and further fields of an earlier, interrupted run into the document; return it.

    Raises:
        FileError: the file holds results of other settings or versions.
    """
    if file.exists():
        earlier = read(file)
        versions = earlier.get("provenance", {}).get("versions")
        require_same(file, "settings", document["settings"], earlier.get("settings"))
        require_same(file, "versions", document["provenance"]["versions"], versions)
        document.update({**earlier, "provenance": document["provenance"]})
    return document


def require_same(file: Path, what: str, now: Any, earlier: Any) -> None:
    """Check that a run may be added to a results file.

    Args:
        file: for the message.
        what: the run and the file must have in common, in words.
        now: its value in the run.
        earlier: its value in the file.

    Raises:
        FileError: the values differ as JSON.
    """
    if json.loads(json.dumps(now)) != earlier:
        raise FileError(f"{file} holds results of other {what}: move it, or give another --out")


def complete(
    document: Document,
    file: Path,
    wanted: Sequence[Any],
    measure: Callable[[Any], Sequence[Row]],
    *,
    shows: str,
    minutes: float | None = None,
) -> None:
    """Measure every wanted run that has no row; write the file after each.

    Args:
        document: rows are added to it; each has the fields of its run.
        file: the results file.
        wanted: dataclass instances, in the order in which they are measured.
        measure: run ↦ its rows.
        shows: format of the line about a run's first row, such as "loss {loss:.3f}".
        minutes: after these no further run is started; None: no limit.
    """
    runs = [
        run
        for run in wanted
        if not any(asdict(run).items() <= row.items() for row in document["rows"])
    ]
    begun = time.monotonic()
    for number, run in enumerate(runs):
        start = time.monotonic()
        if minutes is not None and start - begun >= 60 * minutes:
            print(f"{minutes:g} minutes are over: {len(runs) - number} runs are left")
            return
        rows = [{**row, **asdict(run)} for row in measure(run)]
        document["rows"] += rows
        write_json(document, file)
        said = rows[0].get("error") or shows.format_map(rows[0])
        at, took = len(wanted) - len(runs) + number + 1, time.monotonic() - start
        print(f"{at}/{len(wanted)} {run}: {said} ({took:.0f} s)", flush=True)


def render(
    folder: Path,
    pattern: str,
    table: Callable[[Document], str],
    figure: Callable[[Document], Figure] | None = None,
) -> None:
    """Write table and figure of each matching results file, from this file alone; print the table.

    Raises:
        FileError: no file matches the pattern, or a file has no rows.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileError(f"{folder} holds no {pattern}: measure first")
    for file in files:
        document = read(file)
        if not document["rows"]:
            raise FileError(f"{file} holds no rows yet: measure first")
        text = table(document)
        write_text(text, file.with_suffix(".md"))
        if figure is not None:
            write_text(plots.svg(figure(document), file.stem), file.with_suffix(".svg"))
        print(text)

"""Results files: JSON with the settings and versions they were measured with; what they may say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pins.errors import FileError, first_line

RESULTS = Path(__file__).parents[1] / "results"


def read(file: Path) -> dict[str, Any]:
    """The document in a results file.

    Raises:
        FileError: there is none, or it is no JSON object with rows.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{file} is not a results file: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        raise FileError(f"{file} is not a results file: it holds no rows")
    return document


def rows_before(file: Path, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier, interrupted run with the same settings and versions; else none.

    Raises:
        FileError: the file holds other results, which are not overwritten.
    """
    if not file.exists():
        return []
    earlier = read(file)
    for what, now, then in (
        ("settings", document["settings"], earlier.get("settings")),
        (
            "versions",
            document["provenance"]["versions"],
            earlier.get("provenance", {}).get("versions"),
        ),
    ):
        if json.loads(json.dumps(now)) != then:
            raise FileError(f"{file} holds results of other {what}: move it, or give another --out")
    rows: list[dict[str, Any]] = earlier["rows"]
    return rows


def without_paths(text: str, paths: Mapping[str, Path | str | None]) -> str:
    """The text with each path of this machine replaced by its name in `paths`."""
    for name, path in sorted(paths.items(), key=lambda item: -len(str(item[1]))):
        if path is not None and str(path) not in ("", "."):
            text = text.replace(str(path), name)
    return text


def describe(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {first_line(error)}"


def number(value: float) -> str:
    """Three digits or more, and no power of ten unless it is tiny."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def measured_with(provenance: Mapping[str, Any]) -> str:
    """Command, date, versions and machine in one line of Markdown."""
    versions, machine = provenance["versions"], provenance["machine"]
    return (
        f"`{provenance['command']}`, {provenance['date']}, Python {provenance['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", {machine['processor']}, {machine['cores']} cores, threads {machine['torch_threads']}."
    )


def measured_files(folder: Path, pattern: str) -> list[Path]:
    """The results files of that name.

    Raises:
        FileError: there is none.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileError(f"{folder} holds no {pattern}: measure first")
    return files

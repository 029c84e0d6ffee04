"""How fast is a certificate checked? Both checkers, one SHA-256 of the files, one read: in turns.

    python -m benchmarks.checker [--scores bert-base] [--rounds 5]

Writes checker.json (a row for each of the four, with command, versions and machine beside them) and
the table checker.md to the results folder. `--render` makes the table again from the results file
alone. The files are made in a temporary folder (`TMPDIR`), and removed.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness.cli import execute
from benchmarks.harness.goals import Goal, Rows, Spread, speedup
from benchmarks.harness.results import RESULTS, describe, measured_with, number, read, without_paths
from benchmarks.harness.score_sets import KEPT_ONE_IN, MODEL, find_score_set
from pins.errors import CertificateError
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.certificate import certify_files, save_scores
from verification.checker import Outcome, Verdict

READ = "one read of the files"
DIGEST = "one SHA-256 of the files"
FAST = "`pins check`"
STANDALONE = "`checker.py`"
BLOCK = 1 << 20  # bytes read at a time
CORES = 2  # of the goal's machine

SAYS: Mapping[str, str] = {
    READ: "scores and mask, a mebibyte at a time, by one thread",
    DIGEST: "the same bytes, one file after the other: what no checker does without",
    FAST: "`verification/certificates/fast_checker.py`, numpy: digests and scan at the same time",
    STANDALONE: "`verification/checker.py`, the standard library alone: digests, then scan",
}


def make(scores: str, folder: Path) -> tuple[Path, list[Path]]:
    """The certificate of the optimal mask for a set of scores, and the files that it names."""
    chosen = find_score_set(scores)
    certificate = folder / "certificate.json"
    files = [folder / "scores.safetensors", folder / "certificate.mask.safetensors"]
    save_scores(chosen.make(), files[0])
    certify_files(files[0], certificate, keep=chosen.keep)
    return certificate, files


def read_once(files: Sequence[Path]) -> None:
    """Every byte, into the same block of memory."""
    block = bytearray(BLOCK)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(block):
                pass


def digest_once(files: Sequence[Path]) -> None:
    """SHA-256 of every file, in turn."""
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


def require_proved(verdict: Verdict) -> None:
    """A time counts only if the check came to its end.

    Raises:
        CertificateError: the verdict is another.
    """
    if verdict.outcome is not Outcome.PROVED:
        raise CertificateError(f"the certificate is true, but the checker said {verdict.message}")


def measure(certificate: Path, files: Sequence[Path], rounds: int) -> list[dict[str, Any]]:
    """A row for each way through the files: its seconds in every round, after one uncounted."""
    ways: Mapping[str, Callable[[], None]] = {
        READ: lambda: read_once(files),
        DIGEST: lambda: digest_once(files),
        FAST: lambda: require_proved(fast_checker.check(certificate)),
        STANDALONE: lambda: require_proved(checker.check(certificate)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name in errors:
                continue
            start = time.perf_counter()
            try:
                way()
            except Exception as error:  # a failure is a result
                errors[name] = describe(error)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return [
        {
            "method": name,
            "seconds": None if name in errors else seconds[name],
            "error": errors.get(name),
        }
        for name in ways
    ]


def goal(document: Mapping[str, Any]) -> Goal:
    """At least 200 million weights a second by the checker in numpy."""
    return Goal(
        f"{FAST} of float32 scores on {CORES} cores, million weights a second",
        200,
        lambda rows: rate(document, rows[FAST]),
        at_least=True,
    )


def rate(document: Mapping[str, Any], row: Mapping[str, Any]) -> Spread | None:
    """Million weights a second; None where the measurement failed."""
    if not row["seconds"]:
        return None
    return Spread.of([document["size"] / taken / 1e6 for taken in row["seconds"]])


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows = {row["method"]: row for row in document["rows"]}
    settings = document["settings"]
    scores, mask = document["bytes"]
    lines = [
        f"# Checking a certificate of {document['size']:,} weights",
        "",
        f"{document['tensors']} tensors of {document['dtype']} scores ({settings['scores']}), "
        f"{settings['kept']} kept, the mask a bit a weight: {number(scores / 1e6)} and "
        f"{number(mask / 1e6)} MB, which the system has in memory. Claimed and proved is the "
        f"optimum, in version 1. All take turns, {settings['rounds']} rounds after one that does "
        "not count; each number is the median of the rounds (least to greatest), ratios are taken "
        "round by round. Digests are part of a check, starting Python is not.",
        "",
        *(f"- {name}: {SAYS[name]}" for name in rows),
        "",
        verdict(document),
        "",
        "| | ms | million weights a second | in SHA-256s | in reads |",
        "|---|---:|---:|---:|---:|",
        *(_line(document, rows, name) for name in rows),
        *_failures(rows),
        "",
        measured_with(document["provenance"]),
        "",
    ]
    return "\n".join(lines)


def verdict(document: Mapping[str, Any]) -> str:
    """The goal, whether it is met, and how far numpy is from its bound and from the other."""
    rows = {row["method"]: row for row in document["rows"]}
    aim = goal(document)
    cores = document["provenance"]["machine"]["cores"]
    if document["dtype"] != "float32" or cores != CORES:
        judged = f"not judged on {cores} cores with {document['dtype']}"
    else:
        judged = aim.judged(aim.measured(rows))
    said = [f"Goal: {aim.stated()}; {judged}."]
    if times := speedup(rows, FAST, STANDALONE):
        said.append(f"{FAST} is {times} times as fast as {STANDALONE}.")
    if bound := speedup(rows, DIGEST, FAST):
        said.append(f"It takes {bound} times as long as the digests alone, on one core.")
    return " ".join(said)


def _line(document: Mapping[str, Any], rows: Rows, name: str) -> str:
    row = rows[name]
    if not row["seconds"]:
        return f"| {name} | failed | | | |"
    cells = [
        Spread.of([1e3 * taken for taken in row["seconds"]]),
        rate(document, row),
        speedup(rows, DIGEST, name),
        speedup(rows, READ, name),
    ]
    return f"| {name} | " + " | ".join("" if c is None else str(c) for c in cells) + " |"


def _failures(rows: Rows) -> list[str]:
    failed = [f"{name} failed with {row['error']}" for name, row in rows.items() if row["error"]]
    return ["", *failed] if failed else []


def render(file: Path) -> str:
    """The table from a results file; its text."""
    text = table(read(file))
    write_text(text, file.with_suffix(".md"))
    return text


def run(
    scores: Annotated[str, typer.Option(help="A row of benchmarks/harness/score_sets.py.")] = MODEL,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="The table again from the results file.")
    ] = False,
) -> None:
    """Make scores, mask and certificate; measure; write results and table."""
    file = out / "checker.json"
    if not render_only:
        chosen, made = find_score_set(scores), provenance()
        with tempfile.TemporaryDirectory() as folder:
            print(f"{scores}: {chosen.size:,} weights …", flush=True)
            certificate, files = make(scores, Path(folder))
            document: dict[str, Any] = {
                "size": chosen.size,
                "tensors": len(chosen.shapes),
                "dtype": str(chosen.dtype).removeprefix("torch."),
                "keep": chosen.keep,
                "bytes": [each.stat().st_size for each in files],
                "settings": {"scores": scores, "kept": f"1/{KEPT_ONE_IN}", "rounds": rounds},
                "provenance": {**made, "command": without_paths(made["command"], {"OUT": out})},
                "rows": measure(certificate, files, rounds),
            }
        write_json(document, file)
    print(render(file))


def main() -> None:
    """Run it as a command."""
    execute(run)

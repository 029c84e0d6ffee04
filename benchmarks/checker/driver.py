"""Time to check a certificate: two checkers, one SHA-256 of the files, and one read, in turns.

    python -m benchmarks.checker [--scores bert-base] [--rounds 5]

Writes checker.json (a row for each of the four) and the table checker.md to the results folder. The
files are made in a temporary folder (`TMPDIR`) and removed.
"""

import hashlib
import operator
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import benchmark, markdown
from benchmarks.harness.cli import Out, Render, Rounds
from benchmarks.harness.goals import Goal, MedianRange, Rows, per_round, speedup
from benchmarks.harness.markdown import measured_with, number
from benchmarks.harness.results import RESULTS
from benchmarks.harness.score_sets import KEPT_ONE_IN, MODEL, SCORE_SETS, ScoreSet
from benchmarks.harness.timing import in_turns, seconds_of
from pins.errors import CertificateError, SettingError
from pins.utils.io import write_json
from pins.utils.lookup import find
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores
from verification.checker import Outcome, Verdict

FILE = "checker.json"
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


def make(chosen: ScoreSet, folder: Path) -> tuple[Path, list[Path]]:
    """Write the certificate of the optimal mask; return it and the files that it names."""
    certificate = folder / "certificate.json"
    files = [folder / "scores.safetensors", folder / "certificate.mask.safetensors"]
    save_scores(chosen.make(), files[0])
    certify_files(files[0], certificate, keep=chosen.keep)
    return certificate, files


def read_once(files: Sequence[Path]) -> None:
    """Read every byte into the same block of memory."""
    block = bytearray(BLOCK)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(block):
                pass


def digest_once(files: Sequence[Path]) -> None:
    """Compute SHA-256 of every file, one after the other."""
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


def require_proved(verdict: Verdict) -> None:
    """Check that a checker proved the certificate: only then was its check complete.

    Raises:
        CertificateError: the verdict is not "proved".
    """
    if verdict.outcome is not Outcome.PROVED:
        raise CertificateError(f"the certificate is true, but the checker said {verdict.message}")


def measure(certificate: Path, files: Sequence[Path], rounds: int) -> list[dict[str, Any]]:
    """A row for each method: its seconds in every round, after an untimed one."""
    methods: Mapping[str, Callable[[], None]] = {
        READ: lambda: read_once(files),
        DIGEST: lambda: digest_once(files),
        FAST: lambda: require_proved(fast_checker.check(certificate)),
        STANDALONE: lambda: require_proved(checker.check(certificate)),
    }

    def start(name: str) -> Callable[[], float]:
        methods[name]()
        return partial(seconds_of, methods[name])

    return [{"method": name, **row} for name, row in in_turns([*methods], rounds, start).items()]


def rate(rows: Rows, size: int, name: str = FAST) -> MedianRange | None:
    """Million weights a second; None if the measurement failed."""
    return per_round(rows, lambda seconds: size / seconds / 1e6, name)


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows = _by_method(document)
    settings = document["settings"]
    scores, mask = document["bytes"]
    return markdown.document(
        f"# Checking a certificate of {document['size']:,} weights",
        f"{document['tensors']} tensors of {document['dtype']} scores ({settings['scores']}), "
        f"{settings['kept']} kept, the mask a bit a weight: {number(scores / 1e6)} and "
        f"{number(mask / 1e6)} MB, which the system has in memory. Claimed and proved is the "
        f"optimum, in version 1. All take turns, {settings['rounds']} rounds after one that does "
        "not count; each number is the median of the rounds (least to greatest), ratios are taken "
        "round by round. Digests are part of a check, starting Python is not.",
        [f"- {name}: {SAYS[name]}" for name in rows],
        verdict(document),
        markdown.table(
            "| ms | million weights a second | in SHA-256s | in reads",
            "lr",
            (_cells(rows, name, document["size"]) for name in rows),
        ),
        [f"{name} failed with {row['error']}" for name, row in rows.items() if row["error"]],
        measured_with(document["provenance"]),
    )


def verdict(document: Mapping[str, Any]) -> str:
    """The goal, whether it is met, and numpy's time against the digests and the other checker."""
    rows = _by_method(document)
    goal = Goal(
        f"{FAST} of float32 scores on {CORES} cores, million weights a second",
        200,
        lambda rows: rate(rows, document["size"]),
        at_least=True,
    )
    cores = document["provenance"]["machine"]["cores"]
    if document["dtype"] != "float32" or cores != CORES:
        judged = f"not judged on {cores} cores with {document['dtype']}"
    else:
        judged = goal.judged(goal.measured(rows))
    said = [f"Goal: {goal.stated()}; {judged}."]
    if times := speedup(rows, FAST, STANDALONE):
        said.append(f"{FAST} is {times} times as fast as {STANDALONE}.")
    if bound := speedup(rows, DIGEST, FAST):
        said.append(f"It takes {bound} times as long as the digests alone, on one core.")
    return " ".join(said)


def _by_method(document: Mapping[str, Any]) -> Rows:
    return {row["method"]: row for row in document["rows"]}


def _cells(rows: Rows, name: str, size: int) -> str:
    if not rows[name]["seconds"]:
        return f"{name} | failed"
    milliseconds = per_round(rows, partial(operator.mul, 1e3), name)
    ratios = " | ".join(str(speedup(rows, of, name) or "") for of in (DIGEST, READ))
    return f"{name} | {milliseconds} | {rate(rows, size, name)} | {ratios}"


def run(
    scores: Annotated[str, typer.Option(help="Name of a score set.")] = MODEL,
    rounds: Rounds = 5,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Make scores, mask and certificate; measure; write results and table."""
    if not render_only:
        chosen = find(SCORE_SETS, scores, "score set", SettingError)
        settings = {"scores": scores, "kept": f"1/{KEPT_ONE_IN}", "rounds": rounds}
        with tempfile.TemporaryDirectory() as folder:
            print(f"{scores}: {chosen.size:,} weights …", flush=True)
            certificate, files = make(chosen, Path(folder))
            sizes = [each.stat().st_size for each in files]
            about = {**chosen.describe(scores), "bytes": sizes}
            document = benchmark.new_document(settings, {"OUT": out}, **about)
            document["rows"] = measure(certificate, files, rounds)
        write_json(document, out / FILE)
    benchmark.render(out, FILE, table)

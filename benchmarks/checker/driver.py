"""Time to check certificates: two checkers, one SHA-256 of the files, and one read, in turns.

    python -m benchmarks.checker [--scores minilm] [--rounds 5]

Writes checker.json (a row for each method and claim) and the table checker.md to the results
folder. The files are made in a temporary folder (`TMPDIR`) and removed.
"""

import hashlib
import operator
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.checker.certificates import CLAIMS, PLAIN, write
from benchmarks.harness import benchmark, markdown
from benchmarks.harness.cli import Out, Render, Rounds
from benchmarks.harness.goals import Goal, MedianRange, Rows, per_round, speedup
from benchmarks.harness.markdown import measured_with, number
from benchmarks.harness.results import RESULTS
from benchmarks.harness.score_sets import KEPT_ONE_IN, SCORE_SETS, SMALL_MODEL, ScoreSet
from benchmarks.harness.timing import in_turns, seconds_of
from pins.errors import CertificateError, SettingError
from pins.utils.io import write_json
from pins.utils.lookup import find
from verification import checker
from verification.certificates import fast_checker
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


Made = Mapping[str, tuple[Path, list[Path]]]
"""The certificate of each claim, and the files that it names."""


def make(chosen: ScoreSet, folder: Path) -> Made:
    """Write a certificate for each claim about these scores, each to its own folder."""
    scores, made = chosen.make(), {}
    for i, (name, claim) in enumerate(CLAIMS.items()):
        (folder / str(i)).mkdir()
        made[name] = write(scores, claim, folder / str(i))
    return made


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


def measure(made: Made, rounds: int) -> list[dict[str, Any]]:
    """A row for each method and claim: its seconds in every round, after an untimed one."""
    methods: Mapping[str, Callable[[Path, Sequence[Path]], None]] = {
        READ: lambda _, files: read_once(files),
        DIGEST: lambda _, files: digest_once(files),
        FAST: lambda certificate, _: require_proved(fast_checker.check(certificate)),
        STANDALONE: lambda certificate, _: require_proved(checker.check(certificate)),
    }
    turns = {
        _key(method, claim): partial(work, *made[claim])
        for claim in made
        for method, work in methods.items()
        if method != READ or claim == PLAIN
    }

    def start(name: str) -> Callable[[], float]:
        turns[name]()
        return partial(seconds_of, turns[name])

    return [{"method": name, **row} for name, row in in_turns([*turns], rounds, start).items()]


def _key(method: str, claim: str) -> str:
    """The name of a row."""
    return method if claim == PLAIN else f"{method}, {claim}"


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
        f"optimum. All take turns, {settings['rounds']} rounds after one that does "
        "not count; each number is the median of the rounds (least to greatest), ratios are taken "
        "round by round. Digests are part of a check, starting Python is not.",
        [f"- {name}: {says}" for name, says in SAYS.items()],
        verdict(document),
        markdown.table(
            "| ms | million weights a second | in SHA-256s | in reads",
            "lr",
            (_cells(rows, name, document["size"]) for name in SAYS),
        ),
        "Other claims about the same scores:",
        markdown.table(
            f"claim | {STANDALONE}, ms | times that of {PLAIN} | {FAST}, ms | in SHA-256s",
            "lr",
            (_claim_cells(rows, claim) for claim in CLAIMS if claim != PLAIN),
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


def _claim_cells(rows: Rows, claim: str) -> str:
    standalone, fast, digest = (_key(name, claim) for name in (STANDALONE, FAST, DIGEST))
    found = (
        per_round(rows, partial(operator.mul, 1e3), standalone),
        speedup(rows, STANDALONE, standalone),
        per_round(rows, partial(operator.mul, 1e3), fast),
        speedup(rows, digest, fast),
    )
    told = (str(each) if each else "failed" for each in found)
    return " | ".join((f"{claim}: {CLAIMS[claim].says}", *told))


def run(
    scores: Annotated[str, typer.Option(help="Name of a score set.")] = SMALL_MODEL,
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
            made = make(chosen, Path(folder))
            sizes = [each.stat().st_size for each in made[PLAIN][1]]
            about = {**chosen.describe(scores), "bytes": sizes}
            document = benchmark.new_document(settings, {"OUT": out}, **about)
            document["rows"] = measure(made, rounds)
        write_json(document, out / FILE)
    benchmark.render(out, FILE, table)

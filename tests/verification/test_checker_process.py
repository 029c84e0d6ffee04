"""What happens to the process and to the files while a certificate is checked, by both checkers."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests.flushing import flushing
from tests.verification.certificate_cases import CHECKER, Case, digest
from verification import checker
from verification.certificates.fast_checker import Arrays
from verification.checker import Outcome, Scan, Verdict

SCANS = pytest.mark.parametrize("scan", [Scan, Arrays])
UNDECIDED = Verdict(
    Outcome.UNREADABLE,
    "unreadable: could not be decided: this process takes the floats below 2.3e-308 for 0",
)


def false_about_denormals() -> Case:
    """A claim that is true of two zeros, about 1e-310 kept and 2e-310 pruned."""
    case = Case({"w": [0.0, 0.0]}, {"w": [1, 0]}, "F64").certify()
    case.scores["w"] = [1e-310, 2e-310]
    case.redigest()
    return case


def wrong_without_denormals() -> Case:
    """A true claim about these scores."""
    return Case({"w": [2e-310, 1e-310]}, {"w": [1, 0]}, "F64").certify()


@SCANS
def test_a_process_that_flushes_denormals_decides_nothing(
    tmp_path: Path, scan: Callable[[], Scan]
) -> None:
    path = false_about_denormals().write(tmp_path)
    right = checker.check(path, scan())
    assert right.outcome is Outcome.REFUTED
    assert "w[1] is pruned and w[0] kept, with 2e-310 and 1e-310" in right.message
    with flushing():
        assert checker.check(path, scan()) == UNDECIDED
        # The negative control: without the question, a false claim is proved.
        with mock.patch.object(checker, "_require_denormals"):
            assert checker.check(path, scan()).outcome is Outcome.PROVED
    assert checker.check(path, scan()) == right


@SCANS
def test_the_thread_that_compares_is_asked(tmp_path: Path, scan: Callable[[], Scan]) -> None:
    path = false_about_denormals().write(tmp_path)
    found: list[Verdict] = []
    with flushing():  # as the threads do that it starts
        thread = threading.Thread(target=lambda: found.append(checker.check(path, scan())))
        thread.start()
        thread.join()
    assert found == [UNDECIDED]


def swapping(kind: type[Scan], swap: Callable[[], object], *, after: bool) -> Scan:
    """A way through the files in which they are swapped before or after the digests."""

    class Swapping(kind):  # type: ignore[misc, valid-type]
        def after(self, checks: Sequence[Callable[[], None]], proof: Callable[[], str]) -> str:
            if not after:
                swap()
            for each in checks:
                each()
            if after:
                swap()
            found: str = proof()
            return found

    return Swapping()


@SCANS
@pytest.mark.parametrize("case", [false_about_denormals(), wrong_without_denormals()])
def test_denormals_that_are_flushed_meanwhile_decide_nothing(
    tmp_path: Path, scan: type[Scan], case: Case
) -> None:
    path = case.write(tmp_path)
    flush = swapping(scan, lambda: torch.set_flush_denormal(True), after=True)
    with flushing():
        torch.set_flush_denormal(False)
        assert checker.check(path, flush) == UNDECIDED


@SCANS
@pytest.mark.parametrize("after", [False, True])
def test_a_file_that_is_swapped_is_not_proved(
    tmp_path: Path, scan: type[Scan], after: bool
) -> None:
    case = Case({"w": [1.0, 2.0, 3.0]}, {"w": [0, 0, 1]}).certify()
    claimed = Case({"w": [3.0, 2.0, 1.0]}, {"w": [0, 0, 1]})  # of these the claim is false
    case.certificate["evidence"]["scores"]["sha256"] = digest(claimed.files()["scores"])
    path = case.write(tmp_path)
    scores, other = tmp_path / "scores.safetensors", tmp_path / "other"
    other.write_bytes(claimed.files()["scores"])
    verdict = checker.check(path, swapping(scan, lambda: other.replace(scores), after=after))
    assert verdict.outcome is Outcome.REFUTED
    assert "sha256" in verdict.message


@SCANS
def test_a_digest_of_the_path_would_prove_a_swapped_file(tmp_path: Path, scan: type[Scan]) -> None:
    # The negative control of the test above.
    case = Case({"w": [1.0, 2.0, 3.0]}, {"w": [0, 0, 1]}).certify()
    claimed = Case({"w": [3.0, 2.0, 1.0]}, {"w": [0, 0, 1]})
    case.certificate["evidence"]["scores"]["sha256"] = digest(claimed.files()["scores"])
    path = case.write(tmp_path)
    scores, other = tmp_path / "scores.safetensors", tmp_path / "other"
    other.write_bytes(claimed.files()["scores"])
    swapped = swapping(scan, lambda: other.replace(scores), after=False)

    def of_path(file: checker._TensorFile) -> str:
        return digest((tmp_path / file.name).read_bytes())

    with mock.patch.object(checker._TensorFile, "sha256", of_path):
        assert "changed while it was read" in checker.check(path, swapped).message
        other.write_bytes(claimed.files()["scores"])
        scores.write_bytes(case.files()["scores"])
        swapped = swapping(scan, lambda: other.replace(scores), after=False)
        with mock.patch.object(checker._TensorFile, "require_unchanged"):
            assert checker.check(path, swapped).outcome is Outcome.PROVED


@SCANS
def test_a_file_that_is_written_to_is_not_proved(tmp_path: Path, scan: type[Scan]) -> None:
    path = Case({"w": [1.0, 2.0]}, {"w": [0, 1]}).certify().write(tmp_path)
    scores = tmp_path / "scores.safetensors"
    better = Case({"w": [3.0, 2.0]}, {"w": [0, 1]}).files()["scores"]
    swapped = swapping(scan, lambda: scores.write_bytes(better), after=True)
    message = checker.check(path, swapped).message
    assert message.startswith(
        ("unreadable: scores.safetensors: changed", "refuted: w[0] is pruned")
    )


MEASURED = """
import re, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of memory")
def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = Case({"w": [1.0, 2.0]}, {"w": [0, 1]}).certify().write(tmp_path)
    command = [sys.executable, "-I", "-S", "-c", MEASURED, str(CHECKER), str(path)]

    def peak() -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return int(done.stdout.splitlines()[-1]) * 1024, done.stderr

    usual, _ = peak()
    with (tmp_path / "scores.safetensors").open("wb") as file:
        file.write((99_000_000).to_bytes(8, "little") + b'{"a":')
        file.truncate(99_000_008)  # sparse
    most, message = peak()
    # The negative control: reading it alone takes 99 MB.
    assert usual < 2**26
    assert "a header of 99000000 bytes; at most 16777216 are read" in message
    assert most < usual + 2**24

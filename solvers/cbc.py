"""CBC, branch and cut in floating point: the program that PuLP bundles."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import pulp

from pins.errors import ProgramError
from pins.utils.child_process import run, scratch_folder
from solvers.exact import FloatArray
from solvers.incumbent import read_incumbent
from solvers.program import BinaryProgram
from solvers.result import Report, Result, Status
from solvers.scaling import Scaled
from solvers.solver import LONGEST, Solver, check_time_limit
from solvers.writers import write

STATUSES: Mapping[str, Status] = MappingProxyType(
    {
        "Optimal": Status.OPTIMAL,
        "Infeasible": Status.INFEASIBLE,
        "Integer infeasible": Status.INFEASIBLE,  # the relaxation has points, {0,1}ⁿ has none
        "Unbounded": Status.UNBOUNDED,
        "Stopped": Status.INTERRUPTED,
    }
)
"""The beginning of the first line of CBC's solution file ↦ Status; any other counts as FAILED."""

GAP_STOP = "within gap tolerance"
"""CBC's message when it stops on its gap: optimal in its solution file, NOT_PROVED here."""

PREPROCESSING = ("off", "on")
"""CBC's option `preprocess` in the order of trial: the second only if CBC crashes.

With its integer preprocessing CBC 2.10.3 loses optimal points of some tiny programs: for the
minimum of x₀ − x₁ + 2x₃ with −9x₀ − x₂ + 9x₃ ≤ 0, −6x₀ + 6x₁ − 6x₃ ≤ −4 and x₀ ≤ 6 it claims 2, but
(1, 0, 1, 0) costs 1. Without it CBC crashes on some infeasible programs, such as 2x₀ = 1."""

GRACE = 60.0
"""Seconds after its time limit at which CBC is killed; it looks at the limit now and then."""


LOG_BYTES = 1 << 16
"""Of CBC's log that are read at its beginning, and at its end."""


class _NoAnswerError(Exception):
    """CBC did not start, or ended without an answer."""


class _Answer(NamedTuple):
    """The first line of CBC's solution file, the values v of the variables, and CBC's log."""

    line: str
    values: FloatArray
    log: str


@dataclass(frozen=True)
class Cbc(Solver):
    """min c·x by the CBC that PuLP bundles, with both gaps set to 0.

    CBC works in floating point with absolute tolerances near 1e-7 (and takes two objectives less
    than about 1e-5 apart for equal during its search), so its "optimal" is a claim: its point is
    evaluated exactly under the original c, and CBC's own objective is not used. Its "infeasible" is
    believed only if it can be proved. Its preprocessing is off, see `PREPROCESSING`.

    Each solve has its own temporary folder, so any number of processes can solve at once. CBC ends
    with this process, and after a day if there is no time limit.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). False is a
            negative control: scores near the tolerances give wrong masks called optimal.
        threads: passed to CBC; None for its default of one.
    """

    name: ClassVar[str] = "cbc"
    scale: bool = True
    threads: int | None = None

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The claim of CBC, with its point rounded to {0,1}ⁿ and evaluated exactly.

        FAILED, with the reason, if CBC cannot be started or gives no answer.

        Raises:
            ProgramError: the limit is not > 0, or `threads` is not ≥ 1.
        """
        check_time_limit(time_limit)
        if self.threads is not None and self.threads < 1:
            raise ProgramError(f"Cbc: threads={self.threads} came; pass at least 1, or None")
        start = time.perf_counter()
        image = Scaled.of(program, scale=self.scale)
        end = start + (LONGEST if time_limit is None else time_limit)
        try:
            answer = self._answer(image.program, end)
        except (OSError, subprocess.TimeoutExpired, _NoAnswerError) as error:
            message = f"CBC gave no answer: {error}"
            report = Report(self.name, f"PuLP {pulp.VERSION}", time.perf_counter() - start, message)
            return Result(Status.FAILED, None, report)
        line, values, log = answer
        status = next((s for words, s in STATUSES.items() if line.startswith(words)), Status.FAILED)
        if status is Status.OPTIMAL and GAP_STOP in log:
            status = Status.NOT_PROVED
        status, solution, distance, reason = read_incumbent(program, status, values)
        claim = _claimed_objective(log) if solution is not None else None
        version = re.search(r"^Version: *(\S+)", log, re.MULTILINE)
        found = re.search(r"^(Result - |Problem is |Pre-processing says ).*$", log, re.MULTILINE)
        report = Report(
            solver=self.name,
            version=f"CBC {version[1] if version else '?'}, PuLP {pulp.VERSION}",
            seconds=time.perf_counter() - start,
            message=reason + (f"{found[0].strip()} ({line})" if found else line),
            claimed_objective=image.original_objective(claim),
            exponent=image.exponent,
            distance=distance,
        )
        return Result(status, solution, report)

    def _answer(self, program: BinaryProgram, end: float) -> _Answer:
        """Run CBC until it does not crash, in a folder of its own, up to the time `end`.

        Raises:
            OSError: a file cannot be written, or CBC cannot be started.
            subprocess.TimeoutExpired: CBC was killed.
            _NoAnswerError: CBC crashed, or wrote no solution.
        """
        with scratch_folder("cbc-") as folder:
            path = pulp.PULP_CBC_CMD.pulp_cbc_path
            # absolute, because it is started in another folder
            executable = Path(shutil.which(path) or path).absolute()
            _require_startable(executable, executable.stat().st_mtime_ns)
            write(program, folder / "program.mps")
            for preprocessing in PREPROCESSING:
                left = end - time.perf_counter()
                with (folder / "log").open("wb") as log:
                    code = run(
                        [str(executable), *self._arguments(folder, preprocessing, left)],
                        cwd=folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        timeout=max(left, 0) + GRACE,
                    ).returncode
                if code == 0 or end < time.perf_counter():
                    break
            text = _ends(folder / "log")
            if code != 0:
                last = text.strip().splitlines()[-1:]
                raise _NoAnswerError(f"it ended with exit code {code} {last}")
            return _Answer(*_read_solution(folder / "solution", program.size), text)

    def _arguments(self, folder: Path, preprocessing: str, seconds: float) -> list[str]:
        options = {
            "sec": f"{max(seconds, 0):.3f}",
            "timeMode": "elapsed",
            "ratio": "0",
            "allow": "0",
            "preprocess": preprocessing,
        }
        if self.threads is not None:
            options["threads"] = str(self.threads)
        words = [word for name, value in options.items() for word in (f"-{name}", value)]
        # absolute, so that a list of processes tells where each works
        output = ["-solve", "-printingOptions", "all", "-solution", str(folder / "solution")]
        return ["program.mps", *words, *output]


@functools.cache
def _require_startable(executable: Path, changed: int) -> None:  # noqa: ARG001 (a key of the cache)
    """Start CBC once without a program: what cannot be started may later be taken for a script.

    Raises:
        OSError: it cannot be started.
    """
    subprocess.run(  # noqa: S603
        [str(executable), "-quit"],
        cwd=executable.parent,
        capture_output=True,
        check=False,
        timeout=GRACE,
    )


def _read_solution(file: Path, size: int) -> tuple[str, FloatArray]:
    """The first line of CBC's solution file, and v; NaN where the file has no value.

    Raises:
        _NoAnswerError: there is no such file, or it is damaged.
    """
    values = np.full(size, np.nan)
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            first = next(lines, "").strip()
            for line in lines:
                # `** ` marks a value outside its bounds; rows are r0, r1, …
                _, name, value, _ = line.removeprefix("**").split()
                if name.startswith("x"):
                    values[int(name[1:])] = float(value)
    except (OSError, ValueError, IndexError) as error:
        raise _NoAnswerError(f"its solution cannot be read: {error}") from None
    return first, values


def _ends(log: Path) -> str:
    """The beginning and the end of CBC's log, which may be long."""
    with log.open("rb") as file:
        text = file.read(LOG_BYTES)
        file.seek(max(LOG_BYTES, log.stat().st_size - LOG_BYTES))
        return (text + b"\n" + file.read()).decode("utf-8", errors="replace")


def _claimed_objective(text: str) -> float | None:
    """The objective of the scaled program as CBC printed it; None if it printed none."""
    found = re.findall(r"^Objective value: +(\S+)$", text, re.MULTILINE)
    return float(found[-1]) if found else None

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import Bounds, milp

from solvers import highs
from solvers.enumeration import optimal_set
from solvers.highs import STATUSES, Highs, status_of
from solvers.result import Status
from tests.solvers.solver_cases import cardinality, knapsacks, market_split, program


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, Status.OPTIMAL),
        (1, Status.INTERRUPTED),
        (2, Status.INFEASIBLE),
        (3, Status.UNBOUNDED),
        (4, Status.FAILED),
        (5, Status.FAILED),
        (-1, Status.FAILED),
    ],
)
def test_each_code_has_its_status(code: int, status: Status) -> None:
    assert status_of(code, "(HiGHS Status 8: Infeasible)") is status


def test_the_table_covers_the_documented_codes() -> None:
    assert set(STATUSES) == {0, 1, 2, 3, 4}


def test_an_unbounded_program_is_told_from_an_infeasible_one() -> None:
    # No BinaryProgram is unbounded, so the backend is asked directly.
    unbounded = milp([-1.0], bounds=Bounds(0, np.inf))
    infeasible = milp([-1.0], bounds=Bounds(2, 1))
    assert status_of(unbounded.status, unbounded.message) is Status.UNBOUNDED
    assert status_of(infeasible.status, infeasible.message) is Status.INFEASIBLE


def test_a_model_that_is_refused_is_not_called_infeasible() -> None:
    result = Highs().solve(program([1, 2], [[1e16, 1]], "<", [1]))
    assert result.status is Status.FAILED
    assert "Model error" in result.report.message
    # The negative control: scipy's code for it is that of infeasibility.
    assert STATUSES[2] is Status.INFEASIBLE


def test_an_error_of_the_presolve_is_survived() -> None:
    result = Highs().solve(program([0, 0, 0], [[3, 2, -3]], "=", [1]))
    assert result.status is Status.INFEASIBLE
    assert "Solve error" in result.report.message
    assert "without presolve" in result.report.message


def test_a_stop_on_time_without_a_point() -> None:
    result = Highs().solve(market_split(rows=5, size=50), time_limit=0.3)
    assert result.status is Status.INTERRUPTED
    assert result.solution is None
    assert "Time limit" in result.report.message


def test_a_stop_on_time_with_a_point_is_not_called_optimal() -> None:
    instance = knapsacks(rows=10, size=200)
    result = Highs().solve(instance, time_limit=0.5)
    assert result.status is Status.INTERRUPTED
    assert result.solution is not None
    assert instance.feasible(result.solution.x)


def test_the_report_names_the_version_and_scales_back() -> None:
    report = Highs().solve(cardinality(np.array([3e-7, 1e-7]), 1)).report
    assert "scipy" in report.version
    assert report.exponent == 31
    assert report.claimed_objective == pytest.approx(-3e-7)


def test_a_long_solve_goes_on_in_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highs, "PATIENCE", 1e-9)
    instance = knapsacks(rows=2, size=12)
    result = Highs().solve(instance)
    assert result.status is Status.OPTIMAL
    assert result.solution is not None
    assert result.solution.x.tolist() in [x.tolist() for x in optimal_set(instance)]


def test_a_child_process_that_gives_no_answer_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(highs, "PATIENCE", 1e-9)
    instance = knapsacks(rows=2, size=12)
    for path, reason in (("/bin/false", "exit code 1"), ("no-such-program", "No such file")):
        monkeypatch.setattr(sys, "executable", path)
        result = Highs().solve(instance)
        assert result.status is Status.FAILED
        assert "HiGHS gave no answer" in result.report.message
        assert reason in result.report.message
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert Highs().solve(instance).status is Status.FAILED


def test_an_interrupted_solve_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highs, "PATIENCE", 0.01)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt() -> None:
        while not list(tmp_path.glob("highs-*/program.npz")):
            time.sleep(0.01)
        time.sleep(0.3)  # until the child process is at work
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Highs().solve(market_split(rows=5, size=50), time_limit=60)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - start < 30
    assert not list(tmp_path.iterdir())

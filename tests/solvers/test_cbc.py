import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pulp
import pytest

from pins.errors import ProgramError
from solvers import cbc
from solvers.cbc import Cbc
from solvers.closed_form import ClosedForm
from solvers.incumbent import UNPROVED
from solvers.result import TEXT, Status
from tests.full_disk import files_of_at_most
from tests.solvers.solver_cases import cardinality, knapsacks, market_split, program

FIRST_LINES = {
    "Optimal - objective value 1.00000000": Status.OPTIMAL,
    "Infeasible - objective value 1.00000000": Status.INFEASIBLE,
    "Integer infeasible - objective value 1.00000000": Status.INFEASIBLE,
    "Unbounded - objective value 1.00000000": Status.UNBOUNDED,
    "Stopped on time - objective value 1.00000000": Status.INTERRUPTED,
    "Stopped on iterations - objective value 1.00000000": Status.INTERRUPTED,
    "Stopped on time (no integer solution - continuous used) - objective value 1.0": (
        Status.INTERRUPTED
    ),
    "Something new": Status.FAILED,
}


FEASIBLE = program([1, -1], [[1, 1]], "=", [1])


@pytest.mark.parametrize(("line", "status"), FIRST_LINES.items())
def test_each_first_line_of_the_backend_has_its_status(
    line: str, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a program in place of CBC that writes this line, and a point
    impostor(tmp_path, monkeypatch, f"printf '{line}\\n 0 x0 0 0\\n 1 x1 1 0\\n' > solution")
    result = Cbc().solve(FEASIBLE)
    unproved = status is Status.INFEASIBLE  # of a program that has a point
    assert result.status is (Status.FAILED if unproved else status)
    assert (UNPROVED in result.report.message) is unproved
    assert (result.solution is not None) == (status in (Status.OPTIMAL, Status.INTERRUPTED))
    assert line in result.report.message


def impostor(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in place of CBC."""
    cbc = folder / "cbc"
    cbc.write_text(f"#!/bin/sh\n{script}\n")
    cbc.chmod(0o755)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(cbc))


def test_the_preprocessing_that_loses_the_optimum_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[float]] = [[-9, 0, -1, 9], [-6, 6, 0, -6], [1, 0, 0, 0]]
    instance = program([1, -1, 0, 2], rows, "<<<", [0, -4, 6])
    solution = Cbc().solve(instance).solution
    assert solution is not None
    assert solution.objective == 1
    # The negative control: with preprocessing CBC calls a worse point optimal.
    monkeypatch.setattr(cbc, "PREPROCESSING", cbc.PREPROCESSING[::-1])
    wrong = Cbc().solve(instance)
    assert wrong.status is Status.OPTIMAL
    assert wrong.solution is not None
    assert wrong.solution.objective == 2


def test_a_crash_without_preprocessing_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = program([0], [[2]], "=", [1])
    assert Cbc().solve(instance).status is Status.INFEASIBLE
    # The negative control: CBC does crash when it has no second option.
    monkeypatch.setattr(cbc, "PREPROCESSING", cbc.PREPROCESSING[:1] * 2)
    assert Cbc().solve(instance).status is Status.FAILED


def test_a_stop_on_time_without_a_point() -> None:
    result = Cbc().solve(market_split(rows=5, size=50), time_limit=0.3)
    assert result.status is Status.INTERRUPTED
    assert result.solution is None
    assert "Stopped on time" in result.report.message


def test_a_stop_on_time_with_a_point_is_not_called_optimal() -> None:
    instance = knapsacks(rows=10, size=200)
    result = Cbc().solve(instance, time_limit=0.5)
    assert result.status is Status.INTERRUPTED
    assert result.solution is not None
    assert instance.feasible(result.solution.x)


def absent(folder: Path) -> Path:
    return folder / "no-such-program"


def not_executable(folder: Path) -> Path:
    (folder / "cbc").write_text("#!/bin/sh\n")
    return folder / "cbc"


def of_another_machine(folder: Path) -> Path:
    (folder / "cbc").write_bytes(b"MZ not a program here")
    (folder / "cbc").chmod(0o755)
    return folder / "cbc"


def crashing(folder: Path) -> Path:
    (folder / "cbc").write_text("#!/bin/sh\necho 'out of memory'\nexit 3\n")
    (folder / "cbc").chmod(0o755)
    return folder / "cbc"


def silent(_: Path) -> Path:
    return Path("/bin/true")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (absent, "No such file or directory"),
        (not_executable, "Permission denied"),
        (of_another_machine, "Exec format error"),
        (crashing, "exit code 3 ['out of memory']"),
        (silent, "its solution cannot be read"),
    ],
)
def test_a_backend_that_cannot_run_is_a_failure_with_its_reason(
    path: Callable[[Path], Path], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path(tmp_path)))
    infeasible = cardinality(np.ones(2), 3)  # which nobody looked at
    for instance in (cardinality(np.ones(2), 1), infeasible):
        result = Cbc().solve(instance)
        assert result.status is Status.FAILED
        assert result.solution is None
        assert "CBC gave no answer" in result.report.message
        assert reason in result.report.message
    # The negative control: the bundled one answers.
    monkeypatch.undo()
    assert Cbc().solve(infeasible).status is Status.INFEASIBLE


def test_a_blank_in_the_temporary_folder_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a space  and more"))
    assert Cbc().solve(FEASIBLE).status is Status.FAILED  # there is no such folder
    Path(tempfile.gettempdir()).mkdir()
    assert Cbc().solve(FEASIBLE).status is Status.OPTIMAL
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long/" * 1000)))
    assert "too long" in Cbc().solve(FEASIBLE).report.message


def test_a_file_that_cannot_be_written_is_a_failure() -> None:
    instance = cardinality(np.random.default_rng(0).standard_normal(500), 50)
    with files_of_at_most(4096):
        result = Cbc().solve(instance)
    assert result.status is Status.FAILED
    assert "cannot be written: File too large" in result.report.message
    assert Cbc().solve(instance).status is Status.OPTIMAL


def test_the_text_of_the_backend_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "head -c 300000 /dev/zero | tr '\\0' 'A'"
    impostor(tmp_path, monkeypatch, f"echo Version: $({noise}); ({noise}; echo) > solution")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    report = Cbc().solve(FEASIBLE).report
    assert len(report.message) <= TEXT
    assert len(report.version) <= TEXT


def test_the_report_names_both_versions_and_scales_back() -> None:
    report = Cbc().solve(cardinality(np.array([3e-7, 1e-7]), 1)).report
    assert report.version.startswith("CBC 2.")
    assert f"PuLP {pulp.VERSION}" in report.version
    assert report.exponent == 31
    assert report.claimed_objective == pytest.approx(-3e-7)


def test_threads_change_nothing_and_must_be_positive() -> None:
    instance = cardinality(np.random.default_rng(0).standard_normal(50), 20)
    solution = Cbc(threads=2).solve(instance).solution
    expected = ClosedForm().solve(instance).solution
    assert solution is not None
    assert expected is not None
    assert solution.objective == expected.objective
    with pytest.raises(ProgramError, match="threads=0 came; pass at least 1"):
        Cbc(threads=0).solve(instance)


def _kept(seed: int) -> bool:
    """Whether CBC and the closed form keep the same entries; runs in a process of its own."""
    instance = cardinality(np.random.default_rng(seed).standard_normal(200), 77)
    ours, theirs = ClosedForm().solve(instance).solution, Cbc().solve(instance).solution
    return ours is not None and theirs is not None and np.array_equal(ours.x, theirs.x)


def test_parallel_processes_leave_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = set(os.listdir())  # noqa: PTH208 -- names alone, and of the working folder
    with ProcessPoolExecutor(2) as pool:
        assert all(pool.map(_kept, range(6)))
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir()) == before  # noqa: PTH208


def test_four_thousand_variables_take_no_time() -> None:
    report = Cbc().solve(cardinality(np.random.default_rng(0).standard_normal(4096), 2048)).report
    assert report.seconds < 5

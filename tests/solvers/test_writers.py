import re
import subprocess
from pathlib import Path

import numpy as np
import pulp
import pytest
from hypothesis import given, settings

from pins.errors import FileError, ProgramError
from solvers.enumeration import Enumeration
from solvers.program import BinaryProgram
from solvers.writers import write
from tests.solvers.solver_cases import cardinality, program
from verification.strategies import programs

CBC = pulp.PULP_CBC_CMD.pulp_cbc_path
EXAMPLES = [
    cardinality(np.random.default_rng(0).standard_normal(12), 5),
    program([1.5, -2, 0, -0.25], [[1, 2, 3, 0], [0, 0, 0, 1]], "<=", [4, 1]),
    program([-1, -1], [[0, 0], [1, 1]], "<<", [0, 1]),
]


def cbc_optimum(file: Path) -> float:
    """The optimum that CBC finds in the file."""
    run = subprocess.run(
        [CBC, file, "-solve"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Result - Optimal solution found" in run.stdout, run.stdout
    return float(re.findall(r"Objective value: +(\S+)", run.stdout)[0])


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
@pytest.mark.parametrize("instance", EXAMPLES)
def test_cbc_finds_the_same_optimum_in_the_file(
    instance: BinaryProgram, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"program{suffix}"
    write(instance, file)
    solution = Enumeration().solve(instance).solution
    assert solution is not None
    assert cbc_optimum(file) == pytest.approx(float(solution.objective), abs=1e-7)


@settings(max_examples=50, deadline=None)
@given(instance=programs())
def test_the_mps_reads_back(
    instance: BinaryProgram, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("mps") / "program.mps"
    write(instance, file)
    assert_same(file, instance)


def assert_same(file: Path, instance: BinaryProgram) -> None:
    """The file, read by PuLP, holds every number of the program, bit for bit."""
    data = pulp.LpProblem.fromMPS(str(file))[1].toDataclass()
    costs = {entry.name: entry.value for entry in data.objective.coefficients}
    assert [costs.get(f"x{i}", 0) for i in range(instance.size)] == instance.objective.tolist()
    assert {(v.cat, v.lowBound, v.upBound) for v in data.variables} == {("Integer", 0, 1)}
    rows = np.zeros((len(instance.senses), instance.size))
    for row, constraint in enumerate(data.constraints):
        assert constraint.name == f"r{row}"
        assert pulp.LpConstraintSenses[constraint.sense] == instance.senses[row].value
        assert -constraint.constant == instance.rhs[row]
        for entry in constraint.coefficients:
            rows[row, int(entry.name[1:])] = entry.value
    assert (rows == instance.matrix.toarray()).all()


AWKWARD = program(
    [0.1 + 0.2, 1 / 3, -5e-324, 1.7976931348623157e308], [[0.1, 1e-9, 3, 0]], "<", [0.7]
)


def test_every_digit_is_kept(tmp_path: Path) -> None:
    write(AWKWARD, tmp_path / "program.mps")
    assert_same(tmp_path / "program.mps", AWKWARD)
    write(AWKWARD, tmp_path / "program.lp")
    text = (tmp_path / "program.lp").read_text()
    for number in ("0.30000000000000004 x0", "0.3333333333333333 x1", "- 5e-324 x2"):
        assert number in text


def test_pulps_own_writer_loses_digits(tmp_path: Path) -> None:
    # The negative control, and the reason for a writer of our own.
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    x = problem.add_variable("x0", 0, 1, pulp.LpInteger)
    problem.setObjective(pulp.LpAffineExpression([(x, 0.1 + 0.2)]))
    problem.writeLP(str(tmp_path / "program.lp"))
    problem.writeMPS(str(tmp_path / "program.mps"))
    for file in tmp_path.iterdir():
        assert "0.30000000000000004" not in file.read_text()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"program\.txt came; end .* with \.lp or \.mps"):
        write(EXAMPLES[0], tmp_path / "program.txt")


def test_a_file_is_replaced_and_no_draft_stays(tmp_path: Path) -> None:
    file = tmp_path / "program.lp"
    file.write_text("old")
    write(EXAMPLES[0], str(file))
    assert file.read_text().startswith("Minimize")
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/program\.lp cannot be written"):
        write(EXAMPLES[0], tmp_path / "file" / "program.lp")

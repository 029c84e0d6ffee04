"""The plugin of pytest: laws as tests, counterexamples as messages, errors in one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# pytester forgets what a run imports, and a second import of torch ends the process
import verification.pytest_items  # noqa: F401

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

ROOT = Path(__file__).parents[2]
PRUNERS = """
import torch

def rows(matrix, keep):
    order = matrix.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(matrix, dtype=torch.bool).scatter(1, order[:, :keep], True)

def all_weights(matrix, keep):
    kept = matrix.reshape(-1).argsort(descending=True, stable=True)[: keep * len(matrix)]
    return torch.zeros(matrix.numel(), dtype=torch.bool).scatter(0, kept, True).view(matrix.shape)

def fails(matrix, keep):
    return [][keep]

def floats(matrix, keep):
    return rows(matrix, keep).float()

number = 3
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest with the plugin in a folder with some pruners and a test of its own."""
    pytester.makepyfile(pruners=PRUNERS, test_own="def test_own(): pass")

    def with_options(*options: str) -> pytest.RunResult:
        plugin = ("-p", "pins.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:randomly")
        return pytester.runpytest_inprocess(*plugin, *options)

    return with_options


def laws(name: str, scope: str, *more: str) -> tuple[str, ...]:
    selector = ("--pins-selector", f"pruners:{name}", "--pins-scope", scope)
    return *selector, "--pins-examples", "20", *more


def test_each_law_is_a_test_and_no_other_test_is_run(run: Run) -> None:
    done = run(*laws("rows", "row", "-v"))
    done.assert_outcomes(passed=13)
    done.stdout.fnmatch_lines(
        ["*collected 13 items", "pruners:rows in scope row::tie-rule PASSED*"]
    )


def test_a_failure_is_the_counterexample_alone(run: Run) -> None:
    done = run(*laws("all_weights", "row", "-k", "exact-count", "--pins-examples", "99"))
    done.assert_outcomes(failed=1, deselected=12)
    text = done.stdout.str()
    assert "Traceback" not in text
    assert "verification" not in text
    done.stdout.fnmatch_lines(
        [
            "the law 'exact-count' is broken: Each row keeps exactly k weights, *",
            "  call 1 of 1: k = 1, scores torch.tensor(*",
            "  found:    *",
            "  expected: *the k largest scores of each row",
            "  first difference: index *",
            "FAILED pruners:all_weights in scope row::exact-count - the law 'exact-count'*",
        ],
    )


def test_files_that_are_named_are_run_too(run: Run) -> None:
    run(*laws("rows", "row", "-k", "zero or own", "test_own.py")).assert_outcomes(
        passed=2, deselected=12
    )
    run().assert_outcomes(passed=1)


def test_an_error_of_the_pruner_is_shown_from_its_own_code_on(run: Run) -> None:
    done = run(*laws("fails", "row", "-k", "zero"))
    done.stdout.fnmatch_lines(
        [
            "the selector raises IndexError: list index out of range",
            "Traceback (most recent call last):",
            '  File "*pruners.py", line 12, in fails',
            "    return *keep]",
        ],
        consecutive=True,
    )
    assert "hypothesis/" not in done.stdout.str()
    done = run(*laws("floats", "row", "-k", "zero"))
    done.stdout.fnmatch_lines(["the selector raises MaskError: the selector returned a tensor of*"])
    assert "Traceback" not in done.stdout.str()


@pytest.mark.parametrize(
    ("selector", "scope", "line"),
    [
        ("pruners", "row", "--pins-selector is 'pruners': write module:function"),
        ("none:f", "row", "*'none:f': ModuleNotFoundError: No module named 'none'"),
        ("pruners:f", "row", "*AttributeError: module 'pruners' has no attribute 'f'"),
        ("pruners:number", "row", "*: it is an object of type int, and no function"),
        ("pruners:rows", "row --pins-examples=0", "--pins-examples is 0: it is a number of *"),
        ("pruners:rows", "rows", "there is no scope 'rows': give flat, row, 2:4 or N:4*"),
    ],
)
def test_what_is_not_there_is_one_line(run: Run, selector: str, scope: str, line: str) -> None:
    scope, *more = scope.split()
    done = run("--pins-selector", selector, "--pins-scope", scope, *more)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (said,) = filter(None, done.errlines)
    pytest.LineMatcher([said]).fnmatch_lines([f"ERROR: {line}"])


def outside(folder: Path, *options: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, with the folder first on the path."""
    start = f"{code}; import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", start.lstrip("; "), "-p", "pins.pytest_plugin", *options]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_a_project_with_its_own_verification_one_line_says_so(tmp_path: Path) -> None:
    own = tmp_path / "verification"
    own.mkdir()
    (own / "__init__.py").write_text("ours = 7")
    (tmp_path / "pruners.py").write_text(PRUNERS)
    (tmp_path / "test_own.py").write_text(
        "import verification\ndef test_own(): assert verification.ours == 7"
    )
    done = outside(tmp_path, *laws("rows", "row"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == (
        f"ERROR: the package verification of PINS is {ROOT}/verification/__init__.py, and "
        f"{own}/__init__.py is imported in its place: run pytest in a folder without a package of "
        "that name"
    )
    # without the option the plugin leaves such a project alone
    assert outside(tmp_path, "-q").returncode == 0


def test_the_plugin_needs_neither_pulp_nor_scipy(tmp_path: Path) -> None:
    (tmp_path / "pruners.py").write_text(PRUNERS)
    without = "import sys; sys.modules.update(dict.fromkeys(('pulp', 'scipy', 'matplotlib')))"
    options = laws("rows", "row", "-q", "-k", "count")
    done = outside(tmp_path, *options, code=f"{without}; import verification.adapters")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "1 passed" in done.stdout


def test_without_hypothesis_one_line_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "pruners.py").write_text(PRUNERS)
    without = "import sys; sys.modules['hypothesis'] = None"
    without += "; import os; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'"  # its own plugin
    done = outside(tmp_path, *laws("rows", "row"), code=without)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stderr
    assert done.stderr.startswith("ERROR: hypothesis is not installed: run pip install")
    assert "[laws]" in done.stderr

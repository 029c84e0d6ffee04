"""What all tests share: the command `pins`, and the profiles of Hypothesis.

Profiles: `dev` by default, `ci` where CI is set, or the one HYPOTHESIS_PROFILE names.

No deadline in any of them: on a shared machine the time of one example says nothing about the code,
and neither does slow generation. `ci` is derandomised, so that a change fails for what it changed.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pins.cli import main
from tests.commands import Command

SHARED_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", SHARED_MACHINE, max_examples=25)
settings.register_profile("ci", SHARED_MACHINE, max_examples=25, derandomize=True)
settings.register_profile("thorough", SHARED_MACHINE, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True, scope="module")
def _only_new_garbage() -> None:
    """With all that was imported and collected by then, one full collection takes 0.2 to 0.5 s.

    Trainings and measurements begin with one, and so do many others unasked.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: exit code, standard output, standard error."""

    def run(*arguments: str | Path, columns: int = 200) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pins", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run

"""Benchmarks as anyone would start them, in this process, and in small."""

import itertools
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.harness.results import read
from tests.pins.runs.tiny_runs import save_data, save_model


def start(name: str, *options: str, out: Path) -> None:
    """Do what `python -m benchmarks.NAME OPTIONS --out OUT` does."""
    given = [*options, "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *given])
        patch.setattr(sys, "orig_argv", ["python", "-m", f"benchmarks.{name}", *given])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert end.value.code == 0


def words(options: Mapping[str, Any]) -> list[str]:
    """Options of a driver as its command takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def rendered_again(driver: ModuleType, file: Path, *ends: str, **options: Any) -> dict[str, str]:
    """Texts of the files that a driver makes from a results file, after it made the same again."""
    made = {end: file.with_suffix(f".{end}") for end in ends}
    texts = {end: path.read_text() for end, path in made.items()}
    for path in made.values():
        path.unlink()
    driver.run(out=file.parent, render_only=True, **options)
    assert {end: path.read_text() for end, path in made.items()} == texts
    return texts


@contextmanager
def interrupted(driver: ModuleType, after: int) -> Iterator[None]:
    """Interrupt a benchmark before it measures once more than `after` times."""
    measure, calls = vars(driver)["measure"], itertools.count()

    def counted(*given: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return measure(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "measure", counted)
        with pytest.raises(KeyboardInterrupt):
            yield


class SmallBenchmark:
    """A driver with a tiny model, its data, and a folder for results."""

    def __init__(self, driver: ModuleType, folder: Path, file: str, **options: Any) -> None:
        self.model = save_model(folder / "a-model")
        self.data = folder / "some-data"
        save_data(self.data / "glue" / "SST-2")
        self.out = folder / "out"
        self._driver, self._file, self._options = driver, file, options

    @property
    def file(self) -> Path:
        """The results file."""
        return self.out / self._file

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders as options of the command line."""
        return "--data", str(self.data), f"--model={self.model}"

    def run(self, **given: Any) -> dict[str, Any]:
        """Run with the small options, except those given; return the document."""
        options = {**self._options, "model": str(self.model), "data": self.data, "out": self.out}
        self._driver.run(**{**options, **given})
        return read(self.file)

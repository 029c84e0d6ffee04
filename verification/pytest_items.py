"""The laws as tests of pytest: one item for each, which fails with the counterexample alone."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pins.errors import SettingError, first_line
from verification.laws import Law, Selector, laws_of
from verification.scopes import scope_of
from verification.strategies.search import counterexample

HERE = Path(__file__).parent


class Laws:
    """The hooks of one run: its tests are the laws of a scope.

    Args:
        name: what reports call the selector.
        selector: as the scope says.
        scope: its name.
        examples: the number of instances of each strategy.

    Raises:
        SettingError: there is no such scope, or no example.
    """

    def __init__(self, name: str, selector: Selector, scope: str, examples: int) -> None:
        if examples < 1:
            raise SettingError(
                f"--pins-examples is {examples}: it is a number of instances, 1 or more"
            )
        self.name = f"{name} in scope {scope}"
        self.selector = selector
        self.laws = laws_of(scope_of(scope))
        self.examples = examples

    def pytest_ignore_collect(self) -> bool:
        """Leave out all files but those that are named."""
        return True

    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Put the laws before the other tests."""
        parent = LawsOfSelector.from_parent(session, name=self.name, nodeid=self.name)
        parent.run = self
        report = session.ihook.pytest_make_collect_report(collector=parent)
        session.ihook.pytest_collectreport(report=report)  # which counts them
        items[:0] = report.result


class LawsOfSelector(pytest.Collector):
    """The laws of one selector."""

    run: Laws

    def collect(self) -> Iterator["LawItem"]:
        """An item for each law."""
        for law in self.run.laws:
            item = LawItem.from_parent(self, name=law.name)
            item.run, item.law = self.run, law
            yield item


class BrokenLawError(AssertionError):
    """A counterexample was found."""


class LawItem(pytest.Item):
    """A law of one selector."""

    run: Laws
    law: Law

    def runtest(self) -> None:
        """Search for a counterexample.

        Raises:
            BrokenLawError: one was found; the message is its text.
        """
        found = counterexample(self.run.selector, self.law, max_examples=self.run.examples)
        if found is not None:
            raise BrokenLawError(str(found))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> str:
        """The counterexample; or an error of the selector, from its own code on."""
        error = excinfo.value
        if isinstance(error, BrokenLawError):
            return str(error)
        frames = theirs = error.__traceback__
        while frames is not None:
            if Path(frames.tb_frame.f_code.co_filename).is_relative_to(HERE):
                theirs = frames.tb_next
            frames = frames.tb_next
        line = f"the selector raises {type(error).__name__}: {first_line(error)}"
        if theirs is None:  # a mask that is none
            return line
        return "".join(
            [line, "\n", *traceback.format_exception(type(error), error, theirs)]
        ).rstrip()

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where reports say the test is."""
        return self.path, None, f"{self.run.name}: {self.name}"

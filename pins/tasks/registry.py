"""The tasks by name. To add one: a module that loads it, and a row here."""

from collections.abc import Callable, Mapping

from pins.errors import TaskError
from pins.tasks import stdlib_docs
from pins.tasks.text_classification import TextClassification

TASKS: Mapping[str, Callable[[], TextClassification]] = {
    stdlib_docs.NAME: stdlib_docs.load,
}


def load_task(name: str) -> TextClassification:
    """The task of that name.

    Raises:
        TaskError: there is none, or its data is missing.
    """
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]()

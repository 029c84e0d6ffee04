"""The tasks by name. To add one: a module that loads it, and a row here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pins.errors import TaskError
from pins.tasks import language_modeling
from pins.tasks.datasets import conll, e2e, glue, squad, stdlib_docs, triples
from pins.tasks.task import Task
from pins.utils.lookup import find

# argument: a folder with the original files; None: the hub, or no data needed
Loader = Callable[[Path | None], Task]

TASKS: Mapping[str, Loader] = {
    **glue.LOADERS,
    squad.NAME: squad.load,
    conll.NAME: conll.load,
    e2e.NAME: e2e.load,
    triples.NAME: triples.load,
    language_modeling.WIKITEXT: language_modeling.load_wikitext,
    language_modeling.TEXT: language_modeling.load_text,
    stdlib_docs.NAME: stdlib_docs.load,
}


def load_task(name: str, data: Path | None = None) -> Task:
    """The task of that name.

    Args:
        name: of `TASKS`.
        data: the folder with its original files; default: the Hugging Face hub.

    Raises:
        TaskError: there is no such task, or its data is missing, torn or malformed.
    """
    return find(TASKS, name, "task", TaskError)(data)

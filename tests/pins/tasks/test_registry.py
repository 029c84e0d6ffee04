import re

import pytest

from pins.errors import TaskError
from pins.tasks import TASKS, load_task
from pins.tasks.datasets import stdlib_docs


def test_a_task_is_listed_under_its_name() -> None:
    assert TASKS[stdlib_docs.NAME] is stdlib_docs.load
    assert " ".join(TASKS) == (
        "rte mrpc stsb cola sst2 qnli qqp mnli squad ner e2e triples wikitext text stdlib-docs"
    )


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    message = re.escape("there is no task 'glue': choose one of rte, mrpc, ")
    with pytest.raises(TaskError, match=message):
        load_task("glue")

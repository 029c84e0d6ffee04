"""SQuAD v1.1 (Rajpurkar et al., 2016), from its original files or from the hub.

Training rows come from train and test rows from dev: the original test rows were never published.
"""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from pins.errors import TaskError
from pins.tasks.question_answering import Answer, Question, QuestionAnswering
from pins.tasks.readers.sources import find, from_files, from_hub, items, read_object
from pins.tasks.readers.tables import Row, defect
from pins.tasks.task import Recipe

NAME = "squad"
FILES = ("train-v1.1.json", "dev-v1.1.json")
HUB = "rajpurkar/squad"
# as PLATON, whose windows begin 128 tokens apart, where ours share 128 tokens
RECIPE = Recipe(epochs=10, batch_size=16, learning_rate=3e-5, max_length=384)

_Parts = tuple[Row, str, list[Row]]  # question, context, answers


def load(data: Path | None = None) -> QuestionAnswering:
    """SQuAD v1.1: trained on train, tested on dev.

    Args:
        data: a folder with train-v1.1.json and dev-v1.1.json; default: the hub.

    Raises:
        TaskError: the data is missing, torn or malformed, or an answer is not at its place.
    """
    if data is None:
        splits = from_hub(HUB, lambda rows: _questions(_hub_parts(rows), HUB), test="validation")
    else:
        splits = from_files(
            [find(data, (name,)) for name in FILES],
            lambda file: _questions(_file_parts(file), str(file)),
        )
    return QuestionAnswering(
        name=NAME,
        question="Which span of the context answers the question?",
        recipe=RECIPE,
        **splits,
    )


def _file_parts(path: Path) -> Iterator[_Parts]:
    for article in items(read_object(path), "data"):
        for paragraph in items(article, "paragraphs"):
            context = paragraph.text("context")
            for row in items(paragraph, "qas"):
                yield row, context, items(row, "answers")


def _hub_parts(rows: Iterable[Row]) -> Iterator[_Parts]:
    for row in rows:
        answers = row.values.get("answers")
        if not isinstance(answers, dict):
            raise defect(row.where, "texts and where they begin as answers", answers)
        pairs = zip_longest(answers.get("text", ()), answers.get("answer_start", ()))
        yield (
            row,
            row.text("context"),
            [Row(row.where, {"text": text, "answer_start": start}) for text, start in pairs],
        )


def _questions(rows: Iterable[_Parts], where: str) -> tuple[Question, ...]:
    """The questions, checked: each answer is at its place, each id is unique."""
    questions: dict[str, Question] = {}
    for row, context, answers in rows:
        name = row.text("id")
        if name in questions:
            raise defect(row.where, "an id that no other question has", name)
        if not answers:
            raise defect(row.where, "an answer, as every question of v1.1 has", answers)
        right = tuple(_answer(answer, context) for answer in answers)
        questions[name] = Question(name, row.text("question"), context, right)
    if not questions:
        raise TaskError(f"{where} holds no questions: give the original file, whole")
    return tuple(questions.values())


def _answer(row: Row, context: str) -> Answer:
    text, start = row.text("text"), row.values.get("answer_start")
    if not isinstance(start, int) or start < 0:
        raise defect(row.where, "the number of a character as answer_start", start)
    if not text.strip():
        raise defect(row.where, "words as text", text)
    if not context.startswith(text, start):
        stands = context[start : start + len(text)]
        raise defect(row.where, f"{text!r} at character {start} of the context", stands)
    return Answer(text, start)

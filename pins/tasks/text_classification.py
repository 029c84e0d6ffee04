"""A text-classification task: one text, one of C classes."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One row: a text and the number of its class."""

    text: str
    label: int


@dataclass(frozen=True)
class TextClassification:
    """The rows of a task, split once and for all.

    Attributes:
        name: as on the command line.
        question: what is asked of each text.
        labels: names of the classes; a row's label is an index into them.
        train: rows to learn from.
        test: rows never seen in training.
    """

    name: str
    question: str
    labels: tuple[str, ...]
    train: tuple[Example, ...] = field(repr=False)
    test: tuple[Example, ...] = field(repr=False)

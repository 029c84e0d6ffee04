"""Tasks: labelled text, its classes and its split into training and test rows."""

from pins.tasks.batches import Batch, EncodedExamples
from pins.tasks.registry import TASKS, load_task
from pins.tasks.text_classification import Example, TextClassification

__all__ = [
    "TASKS",
    "Batch",
    "EncodedExamples",
    "Example",
    "TextClassification",
    "load_task",
]

"""Tasks: rows, the head of the model, the metric."""

from pins.tasks.registry import TASKS, load_task
from pins.tasks.task import Recipe, Scores, Task
from pins.tasks.text_classification import Example, TextClassification

__all__ = [
    "TASKS",
    "Example",
    "Recipe",
    "Scores",
    "Task",
    "TextClassification",
    "load_task",
]

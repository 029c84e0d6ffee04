"""The instances: which model on which task, how far trained. To add one: a row in INSTANCES."""

from collections.abc import Mapping
from dataclasses import dataclass

from pins.errors import TaskError
from pins.models.pretrained import DEMO_MODEL
from pins.utils.lookup import find


@dataclass(frozen=True)
class Instance:
    """A model, fine-tuned for some steps on a task, and how its decisions are looked at.

    Attributes:
        exercises: which path of the code, or which question, this instance is there for.
        model: a folder, or an id on the Hugging Face hub.
        task: a name of `pins.tasks.TASKS`.
        dense_steps: of fine-tuning, 16 rows each, before the decision.
        rows: on which the gradient is taken, and as many unseen ones.
        fractions: of the prunable weights to prune in one decision.
    """

    exercises: str
    model: str = DEMO_MODEL
    task: str = "stdlib-docs"
    dense_steps: int = 260
    rows: int = 256
    fractions: tuple[float, ...] = (0.00001, 0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


INSTANCES: Mapping[str, Instance] = {
    "minilm-stdlib-docs": Instance(
        exercises="one decision at the end of fine-tuning: where the linear model stops being true"
    ),
    "minilm-sst2": Instance(
        exercises="the same on a task of two classes, whose loss is small", task="sst2"
    ),
    "minilm-pretrained": Instance(
        exercises="one decision with a large gradient: the head is new, nothing is fine-tuned",
        dense_steps=0,
    ),
    "smoke": Instance(
        exercises="every step of the driver, in seconds",
        dense_steps=1,
        rows=8,
        fractions=(0.001, 0.5),
    ),
}


def find_instance(name: str) -> Instance:
    """The instance of that name.

    Raises:
        TaskError: there is none; says which there are.
    """
    return find(INSTANCES, name, "instance", TaskError)

"""A claim: a statement with a scope, a check that can fail, and a control that must fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from pins.models.pretrained import DEMO_MODEL
from verification.experiments.model_snapshot import ModelSnapshot, observe
from verification.experiments.smooth_loss import SmoothLoss, observe_loss

Profile = Literal["quick", "full"]
Shared = TypeVar("Shared")


class Setting:
    """The inputs of checks: the profile, random numbers, and the gradients of a real model."""

    def __init__(
        self,
        profile: Profile = "quick",
        *,
        seed: int = 0,
        model: str = DEMO_MODEL,
        real: ModelSnapshot | None = None,
        loss: SmoothLoss | None = None,
    ) -> None:
        """Set the inputs.

        Args:
            profile: "quick" (a minute on two cores) or "full".
            seed: the seed of all random numbers.
            model: id or folder of the real model, which is loaded when a check first needs it.
            real: a snapshot to use instead of one of `model`.
            loss: a loss as a function of the weights, to use instead of the loss of `model`.
        """
        self.profile = profile
        self.seed = seed
        self.model = model
        self._real = real
        self._loss = loss
        self._shared: dict[Any, Any] = {}

    @cached_property
    def real(self) -> ModelSnapshot:
        """The real model.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._real or observe(self.model, seed=self.seed)

    def loss(self) -> SmoothLoss:
        """The real model's loss as a function of the weights, loaded at each call: it is large.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._loss or observe_loss(self.model, rows=self.pick(4, 16), seed=self.seed)

    def shared(self, compute: "Callable[[Setting], Shared]") -> Shared:
        """compute(self), computed once, for values that several checks use."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        result: Shared = self._shared[compute]
        return result

    def rng(self) -> np.random.Generator:
        """A generator that starts from the seed: the same random numbers at each call."""
        return np.random.default_rng(self.seed)

    def pick(self, quick: int, full: int) -> int:
        """The number for the profile."""
        return quick if self.profile == "quick" else full


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        holds: True if no counterexample was found.
        evidence: one line with the cases tried, and the numbers or the first counterexample.
        numbers: the evidence as JSON values.
        tried: False if a solver gave no answer; then the check found nothing, and does not hold.
    """

    holds: bool
    evidence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    tried: bool = True


Check = Callable[[Setting], Finding]


@dataclass(frozen=True)
class Claim:
    """One line of the ledger.

    Attributes:
        id: short, unique, kebab-case.
        statement: the claim.
        scope: the domain of the claim.
        source: its theorem or paper.
        check: searches for a counterexample to the statement.
        control_statement: a false variant of the statement.
        control: the same check of the false variant; if it holds, the check proves nothing.
    """

    id: str
    statement: str
    scope: str
    source: str
    check: Check
    control_statement: str
    control: Check


def search(tried: str, counterexamples: list[str], **numbers: Any) -> Finding:
    """The finding of a search: it holds iff there is no counterexample; `tried` names the cases."""
    if counterexamples:
        return Finding(False, f"{tried}: {counterexamples[0]}", numbers)
    return Finding(True, tried, numbers)

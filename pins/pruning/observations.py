"""The observations of a training step, computed tensor by tensor."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.distributed.process_group import Group
from pins.distributed.sharding import group_of, local, part
from pins.errors import ObservationError
from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.curvature.adam import adam_first_moment, adam_second_moment, has_second_moment

CurvatureSource = Callable[[], Mapping[str, Tensor]]
Loss = Callable[[], float]


def require_sources(
    criterion: Criterion,
    optimizer: Optimizer,
    curvature: CurvatureSource | None,
    loss: Loss | None,
) -> None:
    """Check that the loss and the curvature that a criterion reads have a source.

    Raises:
        ObservationError: the criterion reads the loss or a curvature, and there is no source.
    """
    if Reads.LOSS in criterion.reads and loss is None:
        raise ObservationError(
            f"criterion {criterion.name!r} reads the loss and was given none: give loss= a "
            "function that returns the loss of the step's rows with the current weights"
        )
    given = curvature is not None or has_second_moment(optimizer)
    if Reads.CURVATURE in criterion.reads and not given:
        raise ObservationError(
            f"criterion {criterion.name!r} reads a diagonal curvature and "
            f"{type(optimizer).__name__} keeps none: use AdamW (over ranks with fully_shard), or "
            "give curvature= a function that returns one (see pins.empirical_fisher)"
        )


class StepObservations(Mapping[str, Observation]):
    """θ+u, g, θ, h and ĝ of a step, by tensor name; no tensor is copied or held.

    With an optimiser of Adam's family, h and ĝ are its moments; otherwise ĝ is g. For sharded
    parameters they are the local parts. A weight without a gradient in this step has g = 0, and one
    that never had a gradient has h = ĝ = 0 of Adam.

    Attributes:
        group: the ranks that hold the parts.
        observed: the names whose scores belong into an average over steps: those with a gradient
            on some rank, or all if the criterion does not read it.
    """

    def __init__(
        self,
        criterion: Criterion,
        parameters: Mapping[str, Tensor],
        optimizer: Optimizer,
        *,
        before: Mapping[str, Tensor],
        curvature: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Collect the sources, after the optimiser's step and before the gradients are cleared.

        A collective if the parameters are sharded.

        Args:
            criterion: only the quantities that it reads are observed.
            parameters: by name.
            optimizer: the optimiser that took the step.
            before: θ by name, if it was copied.
            curvature: h by name; default: Adam's second moment.

        Raises:
            ObservationError: the criterion reads the gradient, and no weight has one on any rank.
        """
        self.group: Group = group_of(parameters)
        self.observed: Sequence[str] = list(parameters)
        if criterion.reads & {Reads.GRADIENT, Reads.MOMENTUM}:
            self.observed = _with_gradient(parameters, self.group)
        self._reads = criterion.reads
        self._parameters = parameters
        self._optimizer = optimizer
        self._before = before
        self._curvature = curvature

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """The shape of the local part of each tensor by name."""
        return {name: local(parameter).shape for name, parameter in self._parameters.items()}

    def __getitem__(self, name: str) -> Observation:
        """The observation of a tensor.

        Raises:
            ObservationError: a quantity that the criterion reads is missing.
        """
        parameter = self._parameters[name]
        gradient = parameter.grad
        if gradient is None and self._reads & {Reads.GRADIENT, Reads.MOMENTUM}:
            gradient = torch.zeros_like(local(parameter))
        return Observation(
            after=local(parameter),
            gradient=None if gradient is None else local(gradient),
            before=self._before.get(name),
            curvature=self._curvature_of(name),
            momentum=self._momentum_of(name),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def _curvature_of(self, name: str) -> Tensor | None:
        if Reads.CURVATURE not in self._reads:
            return None
        if self._curvature is not None:
            found = self._curvature.get(name)
            return None if found is None else part(found, self._parameters[name])
        return adam_second_moment(self._optimizer, {name: self._parameters[name]})[name]

    def _momentum_of(self, name: str) -> Tensor | None:
        if Reads.MOMENTUM not in self._reads or not has_second_moment(self._optimizer):
            return None
        return adam_first_moment(self._optimizer, {name: self._parameters[name]})[name]


def _with_gradient(parameters: Mapping[str, Tensor], group: Group) -> list[str]:
    """The names of the parameters that have a gradient on some rank, the same on every rank.

    Raises:
        ObservationError: there is none.
    """
    having = [parameter.grad is not None for parameter in parameters.values()]
    if group.size > 1:
        having = [
            ranks > 0 for ranks in group.total(torch.tensor(having, dtype=torch.int)).tolist()
        ]
    if not any(having):
        raise ObservationError(
            "Pruner.step() found no gradient of any weight: call it after optimizer.step() and "
            "before zero_grad()"
        )
    return [name for name, found in zip(parameters, having, strict=True) if found]

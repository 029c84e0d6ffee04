"""Which parameters are pruned: by module type and name, tied ones once, frozen ones not."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn

from pins.errors import ParameterError

PRUNABLE_TYPES: tuple[type[nn.Module], ...] = (nn.Linear,)
# The pooler feeds the task head alone and counts as a part of it.
LEFT_OUT_NAMES = r"(^|\.)(pooler|embeddings?)(\.|$)"


@dataclass(frozen=True)
class PrunableParameters:
    """The weights θ that a decision ranks, in model order, and why the others are left out.

    Attributes:
        parameters: by name, each tensor once.
        left_out: by name, the reason in words.
    """

    parameters: dict[str, nn.Parameter] = field(repr=False)
    left_out: dict[str, str]

    @property
    def total(self) -> int:
        """n, the number of weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def prunable_parameters(
    model: nn.Module,
    include: str | None = None,
    *,
    types: Iterable[type[nn.Module]] = PRUNABLE_TYPES,
) -> PrunableParameters:
    """Choose the prunable weights of a model.

    By default the 2-D weights of the encoder's linear layers: biases, norms, embeddings, the
    pooler and the task head are left out, the head being what lies outside `model.base_model`
    where the model has one (Hugging Face models do). Frozen and tied tensors are left out too.

    Args:
        model: any module.
        include: a regular expression; then exactly the weights of `types` whose parameter name
            it matches (`re.search`) are taken, whatever part of the model they belong to.
        types: module types whose `weight` may be pruned.

    Raises:
        ParameterError: nothing is left to prune, or `include` matches a frozen weight.
    """
    types = tuple(types)
    base = getattr(model, "base_model", model)
    inside_base = {id(p) for p in base.parameters()} if isinstance(base, nn.Module) else set()
    first_name: dict[int, str] = {}
    tied_elsewhere = {
        id(parameter): f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        if not isinstance(module, types)
        for own, parameter in module.named_parameters(recurse=False)
    }
    parameters: dict[str, nn.Parameter] = {}
    left_out: dict[str, str] = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{own}".lstrip(".")
            first = first_name.setdefault(id(parameter), name)
            if not isinstance(module, types) or own != "weight" or parameter.dim() != 2:
                reason = f"{own} of {type(module).__name__}"
            elif include is not None and not re.search(include, name):
                reason = f"does not match {include!r}"
            elif include is None and id(parameter) not in inside_base:
                reason = "task head"
            elif include is None and (match := re.search(LEFT_OUT_NAMES, name)):
                reason = match.group(2)
            elif id(parameter) in tied_elsewhere:
                reason = f"tied to {tied_elsewhere[id(parameter)]}"
            elif first != name and first in parameters:
                reason = f"tied to {first}, counted there"
            elif not parameter.requires_grad:
                if include is not None:
                    raise ParameterError(
                        f"{name} matches {include!r} and is frozen (requires_grad=False): "
                        "thaw it, or choose a pattern that leaves it out"
                    )
                reason = "frozen"
            else:
                parameters[name] = parameter
                continue
            left_out[name] = reason
    if not parameters:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
        raise ParameterError(
            f"{type(model).__name__} has no prunable weight ({reasons or 'no parameters'}): "
            "give include= with a pattern, or types="
        )
    return PrunableParameters(parameters, left_out)

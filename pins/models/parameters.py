"""The prunable parameters of a model: by module type and name; tied ones once, no frozen ones."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.distributed.sharding import require_fsdp2, reshard
from pins.errors import ParameterError, first_line
from pins.selection.tree import View
from pins.utils.text_files import shown

PRUNABLE_TYPES: tuple[type[nn.Module], ...] = (nn.Linear,)
# GPT-2's linear layer, weight (in, out); by name, so that transformers need not be loaded
PRUNABLE_TYPE_NAMES = frozenset({"transformers.pytorch_utils.Conv1D"})
# (experts, inputs, outputs), which these do not say of themselves
TRANSPOSED_TYPE_NAMES = frozenset({"transformers.models.llama4.modeling_llama4.Llama4TextExperts"})
# The pooler feeds only the task head and counts as a part of it
LEFT_OUT_NAMES = r"(^|\.)(pooler|embeddings?(?:_project)?)(\.|$)"


@dataclass(frozen=True)
class PrunableParameters:
    """The weights θ that a decision ranks, in model order, and the reasons why others are left out.

    Attributes:
        parameters: by name, each tensor once.
        left_out: reasons by name of the parameter.
    """

    parameters: dict[str, nn.Parameter] = field(repr=False)
    left_out: dict[str, str]

    @property
    def total(self) -> int:
        """The number n of weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def prunable_parameters(
    model: nn.Module,
    include: str | None = None,
    *,
    types: Iterable[type[nn.Module]] = PRUNABLE_TYPES,
) -> PrunableParameters:
    """Choose the prunable weights of a model.

    The default is the 2-D weights of the linear layers (`nn.Linear`, GPT-2's `Conv1D`) and the 3-D
    weights of experts, without pooler, task head and routers. The head consists of the output
    embeddings and, if the model has a `base_model` (Hugging Face models do), everything outside
    it; of the base, only the blocks are pruned, which are the elements of a `ModuleList`. Frozen
    and tied tensors and the adapters of PEFT are left out too. For a model sharded by
    `fully_shard` these are the sharded parameters.

    Args:
        model: any module.
        include: a regular expression; then the choice is exactly the weights of `types` whose
            parameter name it matches (`re.search`), in any part of the model. Python's search takes
            exponential time for some patterns, such as `(a+)+b`; it can be stopped by Ctrl-C.
        types: module types whose `weight` may be pruned.

    Raises:
        ParameterError: nothing is left to prune, a weight is computed from other tensors (by
            `torch.nn.utils.prune` or a parametrization), `include` matches a frozen weight or is
            no pattern, or the model is wrapped by FSDP1.
    """
    types, pattern = tuple(types), _compiled(include)
    model = unwrapped(model)
    require_fsdp2(model)
    reshard(model)
    inside_base, blocks = _inside_base(model), _inside_blocks(model, types)
    gates, adapters = routers(model), _adapters(model)
    other_use = {
        id(parameter): f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if not _is_matrix(module, own, parameter, types)
    }
    taken: dict[int, str] = {}
    parameters: dict[str, nn.Parameter] = {}
    left_out: dict[str, str] = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        if _is_prunable(module, types) and "weight" not in module._parameters:
            name = f"{module_name}.weight".lstrip(".")
            if pattern.search(name) if pattern else _all_inside(module, inside_base):
                raise _computed(name, module)
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{own}".lstrip(".")
            if not _is_matrix(module, own, parameter, types):
                left_out[name] = f"{own} of {type(module).__name__}"
            elif pattern is not None and not pattern.search(name):
                left_out[name] = f"does not match {include!r}"
            elif id(parameter) in other_use:
                left_out[name] = f"tied to {other_use[id(parameter)]}"
            elif pattern is None and id(parameter) not in inside_base:
                left_out[name] = "task head"
            elif pattern is None and (match := re.search(LEFT_OUT_NAMES, name)):
                left_out[name] = match.group(2)
            elif pattern is None and (match := re.search(adapters, name)):
                left_out[name] = match.group()
            elif pattern is None and id(parameter) in gates:
                left_out[name] = "router"
            elif pattern is None and blocks and id(parameter) not in blocks:
                left_out[name] = "outside the blocks"
            elif id(parameter) in taken:
                left_out[name] = f"tied to {taken[id(parameter)]}, counted there"
            elif parameter.requires_grad:
                parameters[name] = parameter
                taken[id(parameter)] = name
            elif pattern is None:
                left_out[name] = "frozen"
            else:
                raise ParameterError(
                    f"{name} matches {include!r} and is frozen (requires_grad=False): "
                    "thaw it, or choose a pattern that leaves it out"
                )
    if not parameters:
        # "of no prunable type" explains little: used only without another reason
        telling = [each for each in left_out.items() if " of " not in each[1]]
        reasons = "; ".join(
            f"{name}: {why}" for name, why in (telling or list(left_out.items()))[:3]
        )
        raise ParameterError(
            f"{type(model).__name__} has no prunable weight ({reasons or 'no parameters'}): "
            "give include= with a pattern, or types="
        )
    return PrunableParameters(parameters, left_out)


def views_of(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, View]:
    """The outputs and inputs of each weight: (outputs, inputs), (experts, outputs, inputs).

    GPT-2's `Conv1D`, and experts that say `is_transposed`, store (inputs, outputs). Query, key and
    value fused in one weight are one tensor, of all their outputs.

    Args:
        model: that has the parameters.
        parameters: of it, by name; of a sharded one its shape is that of the whole.
    """
    transposed = {
        id(own)
        for module in model.modules()
        for own in module.parameters(recurse=False)
        if not isinstance(module, nn.Linear)
        and (
            _is_prunable(module, PRUNABLE_TYPES)
            or getattr(module, "is_transposed", False) is True
            or not _type_names(module).isdisjoint(TRANSPOSED_TYPE_NAMES)
        )
    }
    return {
        name: View.of(parameter.shape, transposed=id(parameter) in transposed)
        for name, parameter in parameters.items()
    }


def require_trained(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> None:
    """Check that each parameter occurs once and is trained by the optimiser.

    Raises:
        ParameterError: there is none, two are one tensor, one is frozen or not in the optimiser.
    """
    if not parameters:
        raise ParameterError("Pruner was given no parameters: leave them out for the default")
    names: dict[int, str] = {}
    for name, parameter in parameters.items():
        if (other := names.setdefault(id(parameter), name)) != name:
            raise ParameterError(
                f"{name} is the same tensor as {other}: tied weights are pruned once"
            )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in parameters.items():
        if not parameter.requires_grad or id(parameter) not in trained:
            why = "is frozen"
            if parameter.requires_grad:
                why = "is not in the optimiser (of several, one must hold every weight to prune)"
            raise ParameterError(
                f"{name} is to be pruned and {why}: leave it out of `parameters`, or train it"
            )


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer, x Wᵀ + b or, as GPT-2's, x W + b."""
    return _is_prunable(module, PRUNABLE_TYPES)


def _is_prunable(module: nn.Module, types: tuple[type[nn.Module], ...]) -> bool:
    if isinstance(module, types):
        return True
    return types == PRUNABLE_TYPES and not _type_names(module).isdisjoint(PRUNABLE_TYPE_NAMES)


def _type_names(module: nn.Module) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__}


def _is_matrix(
    module: nn.Module, own: str, parameter: nn.Parameter, types: tuple[type[nn.Module], ...]
) -> bool:
    """Whether a parameter is a linear layer's weight, or has one for each expert as first index."""
    if _is_prunable(module, types):
        return own == "weight" and parameter.dim() == 2
    experts = getattr(module, "num_experts", None)
    return types == PRUNABLE_TYPES and parameter.dim() == 3 and len(parameter) == experts


def routers(model: nn.Module) -> set[int]:
    """The ids of the weights that give each expert, or the shared ones, a number for a token."""
    found = set()
    for module in model.modules():
        experts = getattr(module, "experts", None)
        if isinstance(experts, nn.Module):
            number = getattr(experts, "num_experts", None)
            if isinstance(experts, nn.ModuleList | nn.ModuleDict):
                number = len(experts)
            own = {id(each) for each in experts.modules()}
            found |= {
                id(each.weight)
                for each in module.modules()
                if isinstance(each, nn.Linear)
                and each.out_features in (1, number)
                and id(each) not in own
            }
    return found


def _adapters(model: nn.Module) -> str:
    """A pattern for what PEFT itself tells adapters by in a name; without PEFT it matches none."""
    prefixes = {
        getattr(each, "prefix", None) for each in model.modules() if hasattr(each, "peft_config")
    }
    names = (re.escape(each) for each in prefixes if isinstance(each, str) and each)
    return "|".join(rf"[^.]*{name}[^.]*" for name in sorted(names)) or "(?!)"


def _inside_blocks(model: nn.Module, types: tuple[type[nn.Module], ...]) -> set[int]:
    """The ids of the parameters in the blocks of a Hugging Face model; empty for other models."""
    if not hasattr(model, "base_model"):
        return set()
    return {
        id(parameter)
        for blocks in model.modules()
        if isinstance(blocks, nn.ModuleList)
        and any(_is_prunable(module, types) for module in blocks.modules())
        for parameter in blocks.parameters()
    }


def _all_inside(module: nn.Module, ids: set[int]) -> bool:
    return all(id(parameter) in ids for parameter in module.parameters())


def _computed(name: str, module: nn.Module) -> ParameterError:
    """The error for a weight that is no parameter of its own."""
    if "weight_orig" in module._parameters:
        kind, call = "torch.nn.utils.prune", "prune.remove(module, 'weight')"
    else:
        kind = "a parametrization"
        call = "parametrize.remove_parametrizations(module, 'weight')"
    return ParameterError(
        f"{name} is computed from other tensors by {kind}: call {call} of torch.nn.utils first, or "
        "give include= with a pattern that leaves it out"
    )


def _inside_base(model: nn.Module) -> set[int]:
    """The ids of the parameters outside the task head and the output embeddings."""
    if callable(within := getattr(model, "get_base_model", None)):
        model = within()  # PEFT calls its own wrapper `base_model`
    base = getattr(model, "base_model", model)
    if not isinstance(base, nn.Module):
        return set()
    inside = {id(parameter) for parameter in base.parameters()}
    find: Any = getattr(model, "get_output_embeddings", None)
    heads = [find()] if callable(find) else []
    if base is model and hasattr(model, "base_model"):
        # T5 has no `base_model` without its heads; its blocks lie deeper than these
        heads += [child for child in model.children() if isinstance(child, nn.Linear)]
    return inside - {id(p) for head in heads if head is not None for p in head.parameters()}


def _compiled(include: str | None) -> re.Pattern[str] | None:
    try:
        return None if include is None else re.compile(include)
    except (re.error, OverflowError, RecursionError) as error:
        raise ParameterError(
            f"include is {shown(include)}, which is no regular expression: {first_line(error)}"
        ) from error


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside its wrappers, which change the names of parameters.

    `torch.compile` keeps the model as `_orig_mod`, DistributedDataParallel and DataParallel as
    `module`.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner

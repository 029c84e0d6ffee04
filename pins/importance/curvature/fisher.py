"""The diagonal of the empirical Fisher information: h = mean over examples b of g_b².

Two methods give the same numbers up to rounding: one example at a time, for any loss of any model,
and many examples at once with `torch.func`, for models that can be vectorised.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pins.errors import ModelError, ObservationError, ParameterError, SettingError
from pins.models.batches import Batch
from pins.models.heads import Head, find_head
from pins.models.inference import device_of, evaluation_mode, to_device
from pins.models.parameters import unwrapped
from pins.models.task_loss import number_of_rows, prediction_losses
from pins.utils.tensors import upcast_half

CHUNK = 1 << 28  # numbers in the gradients of one chunk of examples: a heuristic, 1 GiB in float32
MASKS = ("attention_mask", "decoder_attention_mask")  # models test whether they are all ones


def empirical_fisher(
    parameters: Mapping[str, Tensor], losses: Iterable[Tensor]
) -> dict[str, Tensor]:
    """h = mean over examples b of g_b², the diagonal of the empirical Fisher information.

    Args:
        parameters: the tensors to differentiate by, by name.
        losses: one scalar loss per example, each with its own graph; with a generator only one
            graph exists at a time.

    Returns:
        Tensors in the parameters' shapes, float32 for 16-bit parameters; 0 where no loss depends on
        the weight, and where it is frozen.

    Raises:
        ObservationError: there is no loss.
    """
    # a sum of small squares needs more digits and range than 16-bit floats have
    fisher = {name: torch.zeros_like(upcast_half(p.detach())) for name, p in parameters.items()}
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    examples = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        for name, gradient in zip(trained, gradients, strict=True):
            fisher[name] += upcast_half(gradient).square()
        examples += 1
    if not examples:
        raise ObservationError("empirical_fisher was given no loss: give one per example")
    return {name: total / examples for name, total in fisher.items()}


def vectorized_fisher(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Batch],
    head: Head | None = None,
    *,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """`empirical_fisher` over `pins.models.task_loss.example_losses`, many examples at once.

    ℓ_b of an example is the mean of the task's loss over its predictions, without dropout; examples
    without predictions do not count. The gradients of a chunk of examples (`chunk_size` × n
    numbers) are computed together, squared and added up.

    The examples of a chunk have the same padding, because the models of transformers test whether
    there is padding, which is impossible for many examples at once. Rows of equal length are best.

    On a CPU it is no faster than one example at a time: with MiniLM-L6 (10.6 M weights), 16 rows of
    64 tokens and one thread, both take 0.06 s per example; with rows of different lengths it takes
    0.07 s. It is meant for accelerators, which one example does not fill (not measured).

    Args:
        model: maps a batch to the input of `head`.
        parameters: parameters of the model, by any names.
        batches: rows with their targets, on any device.
        head: default: the head of the model's class.
        chunk_size: largest number of examples at once; default: as many as keep the gradients below
            `CHUNK` numbers, at least one.

    Returns:
        As `empirical_fisher`.

    Raises:
        ObservationError: no example has a prediction.
        ModelError: the model cannot be vectorised.
        ParameterError: a parameter is not the model's.
        SettingError: a `chunk_size` below 1.
    """
    model = unwrapped(model)
    head = head or find_head(model)
    places = _places(model, parameters)
    trained = [p for p in places.values() if model.get_parameter(p).requires_grad]
    weights = {place: model.get_parameter(place).detach() for place in trained}
    if chunk_size is None:
        chunk_size = max(CHUNK // max(sum(w.numel() for w in weights.values()), 1), 1)
    if chunk_size < 1:
        raise SettingError(f"chunk_size is {chunk_size}: it is a number of examples, at least 1")

    def loss(weights: dict[str, Tensor], inputs: Batch, row: Batch) -> tuple[Tensor, Tensor]:
        inputs, row = ({k: v.unsqueeze(0) for k, v in each.items()} for each in (inputs, row))
        output = functional_call(model, weights, (), inputs)
        losses, known = prediction_losses(output, row, head)
        count = known.sum()
        return losses.sum() / count.clamp(min=1), count

    fisher = {place: torch.zeros_like(upcast_half(weight)) for place, weight in weights.items()}
    examples = 0
    # on some devices the attention kernels cannot be vectorised, but the formula can
    with evaluation_mode(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for inputs, rows in _chunks(model, batches, head, chunk_size):
            try:
                gradients, counts = vmap(
                    grad(loss, has_aux=True), in_dims=(None, _dimensions(inputs), _dimensions(rows))
                )(weights, inputs, rows)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TypeError) as error:
                line = str(error).strip().partition("\n")[0]
                raise ModelError(
                    f"{type(model).__name__} cannot be differentiated for several examples at once "
                    f"({line}): use pins.empirical_fisher, one example after the other"
                ) from error
            for place in weights:
                fisher[place] += upcast_half(gradients.pop(place)).square_().sum(0)
            examples += int(counts.count_nonzero())
    if not examples:
        raise ObservationError(
            "vectorized_fisher was given no example with a prediction: give rows and their targets"
        )
    return {
        name: fisher[place] / examples
        if place in fisher
        else torch.zeros_like(upcast_half(parameters[name].detach()))
        for name, place in places.items()
    }


def _places(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of the parameters in the model."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, parameter in parameters.items():
        if id(parameter) not in names:
            raise ParameterError(
                f"vectorized_fisher was given {name}, which is no parameter of "
                f"{type(model).__name__}: give the model's own, as prunable_parameters(model)"
            )
    return {name: names[id(parameter)] for name, parameter in parameters.items()}


def _chunks(
    model: nn.Module, batches: Sequence[Batch], head: Head, size: int
) -> Iterator[tuple[Batch, Batch]]:
    """Pairs of model inputs and batch, for rows with equal masks; a mask appears once per pair."""
    for batch in batches:
        chunks = [part for rows in _alike(batch) for part in torch.split(rows, size)]
        moved = to_device(batch, device_of(model))
        inputs = head.inputs(model, moved)
        for rows in chunks:
            yield _taken(inputs, rows), _taken(moved, rows)


def _alike(batch: Batch) -> list[Tensor]:
    """Indices of the rows, grouped by equal masks."""
    masks = [batch[name].flatten(1) for name in MASKS if name in batch]
    if not masks:
        return [torch.arange(number_of_rows(batch))]
    kinds, kind = torch.unique(torch.cat(masks, dim=1), dim=0, return_inverse=True)
    return [(kind == number).nonzero().flatten() for number in range(len(kinds))]


def _taken(batch: Batch, rows: Tensor) -> Batch:
    return {
        name: tensor[rows[0]] if name in MASKS else tensor[rows.to(tensor.device)]
        for name, tensor in batch.items()
    }


def _dimensions(batch: Batch) -> dict[str, int | None]:
    """The dimension of the rows; None for a mask that all rows share."""
    return {name: None if name in MASKS else 0 for name in batch}

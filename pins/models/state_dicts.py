"""The state of a model and of an optimiser as tensors by name, saved and restored bit for bit."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import CheckpointError


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and the buffers of the state dict, not copied; each tied tensor once."""
    stored = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in stored}
    return {**dict(model.named_parameters()), **buffers}


@torch.no_grad()
def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the values of `model_tensors` into a model, in place: tied tensors stay tied.

    Raises:
        CheckpointError: names or shapes differ; the model is unchanged then.
    """
    own = model_tensors(model)
    for name in [*own, *tensors]:
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise CheckpointError(f"{name!r} is not the same in the checkpoint and the model")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def optimizer_tensors(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The tensors of an optimiser's state, by `parameter/quantity`.

    Args:
        optimizer: its state consists of tensors, as in torch's optimisers.
        names: name of each parameter, by id.
    """
    return {
        f"{names[id(parameter)]}/{quantity}": tensor
        for parameter, state in optimizer.state.items()
        for quantity, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


def load_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> None:
    """Restore the state of `optimizer_tensors`, bit for bit."""
    for name, tensor in tensors.items():
        parameter_name, _, quantity = name.rpartition("/")
        parameter = parameters[parameter_name]
        # Adam counts its steps on the CPU and keeps its averages on the device of the weights
        device = tensor.device if quantity == "step" else parameter.device
        optimizer.state[parameter][quantity] = tensor.to(device, copy=True)

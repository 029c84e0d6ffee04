"""A model's and an optimiser's state as tensors by name, and back, bit for bit."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import CheckpointError


def nested(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and the buffers that a state dict holds, not copied: each tied tensor once."""
    stored = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in stored}
    return {name: t.detach() for name, t in {**dict(model.named_parameters()), **buffers}.items()}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model the values that `model_tensors` read, in place: what is tied stays tied.

    Raises:
        CheckpointError: they are those of another model; nothing has changed then.
    """
    own = model_tensors(model)
    for name in [*own, *tensors]:
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise CheckpointError(f"{name!r} is not the same in the checkpoint and the model")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def optimizer_tensors(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The state of an optimiser, `parameter/quantity` → tensor.

    Args:
        optimizer: whose state is made of tensors, as that of torch's is.
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
    """Give an optimiser the state that `optimizer_tensors` read, bit for bit."""
    for name, tensor in tensors.items():
        parameter_name, _, quantity = name.rpartition("/")
        parameter = parameters[parameter_name]
        # Adam counts its steps on the CPU, its averages lie beside the weights
        device = tensor.device if quantity == "step" else parameter.device
        optimizer.state[parameter][quantity] = tensor.to(device, copy=True)

"""A network of a few dozen weights with a loss, called as a transformers model is."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pins.importance.curvature.fisher import empirical_fisher
from pins.models.parameters import prunable_parameters
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.smooth_loss import SmoothLoss, loss_function

ROWS, LENGTH, WIDTH, CLASSES = 6, 3, 4, 3


class Network(nn.Module):
    """Attention and a norm that asks for float32, as those of Llama do."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.classes = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, CLASSES)
        self.dropout = nn.Dropout()

    def forward(self, inputs: Tensor, labels: Tensor) -> SimpleNamespace:
        query, key, value = self.mixed(inputs).split(WIDTH, dim=-1)
        hidden = self.dropout(functional.scaled_dot_product_attention(query, key, value))
        wide = hidden.to(torch.float32)
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True, dtype=torch.float32) + 1e-3)
        logits = self.classes(normed.float().to(hidden.dtype).mean(1))
        return SimpleNamespace(loss=functional.cross_entropy(logits, labels))


def network_and_batch(seed: int = 0) -> tuple[Network, dict[str, Tensor]]:
    """In float64; weights as nn.Linear draws them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network().double()
        inputs = torch.randn(ROWS, LENGTH, WIDTH, dtype=torch.float64)
        labels = torch.randint(CLASSES, (ROWS,))
    return network, {"inputs": inputs, "labels": labels}


def observed_network(seed: int = 0) -> SmoothLoss:
    """Its loss as a function, and what was observed at the weights it has."""
    network, batch = network_and_batch(seed)
    parameters = prunable_parameters(network).parameters
    loss = loss_function(network, batch)
    singles = [{k: v[row : row + 1] for k, v in batch.items()} for row in range(ROWS)]
    observed = ModelSnapshot(
        description="small network",
        before={name: parameter.detach() for name, parameter in parameters.items()},
        gradient=dict(
            zip(
                parameters,
                torch.autograd.grad(loss(parameters), [*parameters.values()]),
                strict=True,
            )
        ),
        curvature=empirical_fisher(
            parameters, (loss_function(network, single)(parameters) for single in singles)
        ),
    )
    return SmoothLoss(observed, loss)

"""A toy classifier that trains within a second: small, noisy, and the same on every machine.

x ~ N(0, I₂₀), y = argmax(Dᵀx + ε) over three classes, D drawn once and ε ~ N(0, I₃) for each row:
a network can learn, but no network is right about all rows. NumPy draws the rows, since its streams
are the same on every platform. Rows and weights are float64: differences between CPUs are far below
the digits that a lesson prints. The state of torch's generator does not change.
"""

from collections.abc import Mapping
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pins.importance.curvature.fisher import empirical_fisher
from pins.models.batches import Batch
from pins.models.parameters import prunable_parameters
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.smooth_loss import loss_function
from verification.experiments.training import loss_gradient, training_steps

FEATURES, CLASSES = 20, 3
TRAINING, UNSEEN = 8192, 2048  # rows
BATCH = 128
WIDTHS = (FEATURES, 256, 256, CLASSES)  # 71,424 weights in three matrices


class Network(nn.Module):
    """Linear layers with ReLU between them, with the interface of transformers' models.

    x (B, 20) float64, labels (B,) int64 ↦ `.logits` (B, 3) and, with labels, `.loss`.
    """

    def __init__(self) -> None:
        super().__init__()
        linear = [nn.Linear(*widths, dtype=torch.float64) for widths in pairwise(WIDTHS)]
        self.layers = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        """The logits, and with labels the mean cross-entropy."""
        logits = self.layers(x)
        loss = None if labels is None else cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)


class ToyClassifier:
    """A network and its rows.

    Attributes:
        model: the network, with `nn.Linear`'s initial weights until it is trained.
        unseen: 2,048 rows that no batch contains.
    """

    def __init__(self, seed: int = 0) -> None:
        """Draw rows, weights and batches; the rows do not depend on the seed."""
        random = np.random.default_rng(0)
        x = random.normal(size=(TRAINING + UNSEEN, FEATURES))
        scores = x @ random.normal(size=(FEATURES, CLASSES))
        labels = (scores + random.normal(size=scores.shape)).argmax(1)
        self._rows = {"x": torch.tensor(x), "labels": torch.tensor(labels)}
        self.unseen = self._taken(np.arange(TRAINING, TRAINING + UNSEEN))
        self._random = np.random.default_rng((1, seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Network()

    def batch(self) -> Batch:
        """128 new random training rows."""
        return self._taken(self._random.integers(TRAINING, size=BATCH))

    def train(self, steps: int) -> None:
        """Steps of Adam, a batch each, with gradients clipped to norm 1."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.003)
        list(training_steps(self.model, (self.batch() for _ in range(steps)), optimizer))

    def observe(self, rows: Batch) -> ModelSnapshot:
        """θ, g = ∇L on these rows, and h, their empirical Fisher."""
        parameters = prunable_parameters(self.model).parameters
        singles = ({k: v[i : i + 1] for k, v in rows.items()} for i in range(len(rows["labels"])))
        return ModelSnapshot(
            description="the toy classifier",
            before={name: parameter.detach().clone() for name, parameter in parameters.items()},
            gradient=loss_gradient(self.model, [rows], parameters),
            curvature=empirical_fisher(parameters, (self.model(**row).loss for row in singles)),
        )

    @torch.no_grad()
    def losses(self, weights: Mapping[str, Tensor], rows: Batch) -> Tensor:
        """(2,): the loss with these weights on these rows, and on the unseen rows.

        Args:
            weights: some or all of the parameters by name; the model does not change.
            rows: for example the rows of a gradient.
        """
        return torch.stack(
            [loss_function(self.model, each)(weights) for each in (rows, self.unseen)]
        )

    def _taken(self, index: np.ndarray) -> Batch:
        return {name: rows[torch.tensor(index)] for name, rows in self._rows.items()}

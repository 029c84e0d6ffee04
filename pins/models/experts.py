"""Mixtures of experts with one linear layer for each matrix of an expert, as their files have them.

transformers holds the matrices of all experts of a block as two tensors, (experts, 2·inner, width)
and (experts, width, inner), and gathers them from files that have a tensor for each expert. A
matrix is pruned from what it reads, which differs from expert to expert: `separate` puts modules
with a matrix each in the place of these.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pins.errors import ModelError

PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
# what transformers says of experts that compute act(x Gᵀ) ⊙ (x Uᵀ) Dᵀ and no more
PLAIN = {"has_gate": True, "has_bias": False, "is_transposed": False, "is_concatenated": True}
POST_NORM = "has_post_expert_norm"


class Expert(nn.Module):
    """x ↦ gate(x Gᵀ, x Uᵀ) Dᵀ, with G and U of shape (inner, width), D of (width, inner)."""

    def __init__(self, width: int, inner: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False, device="meta")
        self.up_proj = nn.Linear(width, inner, bias=False, device="meta")
        self.down_proj = nn.Linear(inner, width, bias=False, device="meta")
        self._gate = gate

    def forward(self, tokens: Tensor) -> Tensor:
        """The output for the tokens that are sent to this expert, (tokens, width)."""
        both = torch.cat([self.gate_proj(tokens), self.up_proj(tokens)], dim=-1)
        found: Tensor = self.down_proj(self._gate(both))
        return found


class Experts(nn.ModuleList):
    """Σ over the experts that a token is sent to, of their outputs times the router's weights."""

    def forward(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """The mixture, in the order of the experts; one without tokens is not called.

        Args:
            hidden: (tokens, width).
            chosen: (tokens, k), the experts of each token.
            weights: (tokens, k).
        """
        total = torch.zeros_like(hidden)
        for number in sorted({*chosen.flatten().tolist()}):
            tokens, place = torch.where(chosen == number)
            found = self[number](hidden[tokens]) * weights[tokens, place, None]
            total.index_add_(0, tokens, found.to(total.dtype))
        return total


def separate(model: nn.Module) -> None:
    """Give a model on the device "meta" `Experts` in the place of experts held as one tensor.

    Raises:
        ModelError: experts of this kind compute something else.
    """
    for name, module in [*model.named_modules()]:
        own = dict(module.named_parameters(recurse=False))
        number = getattr(module, "num_experts", None)
        if not any(each.dim() == 3 and len(each) == number for each in own.values()):
            continue
        known: Any = module
        plain = all(getattr(known, word, None) is value for word, value in PLAIN.items())
        if own.keys() != PARTS.keys() or not plain or getattr(known, POST_NORM, False):
            raise ModelError(
                f"the experts of {type(model).__name__} are not of the kind of Mixtral's and "
                f"Qwen's ({type(module).__name__}): one-shot pruning reads no others"
            )
        count, width, inner = own["down_proj"].shape
        gate = known._apply_gate
        model.set_submodule(name, Experts(Expert(width, inner, gate) for _ in range(count)))

"""One tiny transformers model for each head, and batches for it, padded as one likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pins.models.batches import IGNORED, Batch
from pins.models.heads import CAUSAL, CLASSIFICATION, HEADS, REGRESSION, SEQ2SEQ, SPAN, TOKENS, Head
from tests.pins.networks import tiny

NO_WORDS = {"bos_token_id": None, "eos_token_id": None}  # the defaults lie outside ten words


@dataclass(frozen=True)
class Headed:
    """How a model of this head is made, and what its batches have beside the words."""

    family: str
    kind: str
    changes: Mapping[str, Any]
    targets: Mapping[str, Tensor]

    def model(self) -> nn.Module:
        """Without dropout, so that it predicts the same again; its weights all matter."""
        model = tiny(self.family, self.kind, **self.changes).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
        return model

    def batch(self) -> Batch:
        """Three texts of 4, 5 and 2 words."""
        return {
            "input_ids": torch.tensor([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3], [2, 3, 0, 0, 0]]),
            "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
            **{name: tensor.clone() for name, tensor in self.targets.items()},
        }


SEQUENCE = torch.tensor([[4, 1, 6, 3, IGNORED], [0, IGNORED, 8, 9, 3], [2, 3] + [IGNORED] * 3])

HEADED = {
    CLASSIFICATION.name: Headed(
        "Bert",
        "ForSequenceClassification",
        {"num_labels": 3},
        {"labels": torch.tensor([2, 0, 1])},
    ),
    REGRESSION.name: Headed(
        "Bert",
        "ForSequenceClassification",
        {"num_labels": 1},
        {"labels": torch.tensor([0.5, 4.8, 3.0])},
    ),
    TOKENS.name: Headed("Bert", "ForTokenClassification", {"num_labels": 10}, {"labels": SEQUENCE}),
    SPAN.name: Headed(
        "Bert",
        "ForQuestionAnswering",
        {},
        {"start_positions": torch.tensor([1, 0, 1]), "end_positions": torch.tensor([3, 4, 1])},
    ),
    CAUSAL.name: Headed("GPT2", "LMHeadModel", NO_WORDS, {"labels": SEQUENCE}),
    SEQ2SEQ.name: Headed(
        "T5",
        "ForConditionalGeneration",
        {"d_kv": 4, "d_ff": 16, "decoder_start_token_id": 0, "pad_token_id": 0, **NO_WORDS},
        {"labels": SEQUENCE},
    ),
}


def head_of(name: str) -> Head:
    """The head itself."""
    return HEADS[name]


def padded(batch: Batch, columns: int) -> Batch:
    """The same texts, filled up on the right."""
    wider = {}
    for name, tensor in batch.items():
        fill = IGNORED if name == "labels" else 0
        wider[name] = (
            nn.functional.pad(tensor, (0, columns), value=fill) if tensor.dim() == 2 else tensor
        )
    return wider

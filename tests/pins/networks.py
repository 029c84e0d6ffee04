"""Small networks, data and loops for the tests; the classifiers look like those of transformers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pins.models.batches import Batch, Encoded

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "mask", "keeps", "k", "weights")


@dataclass(frozen=True)
class Output:
    loss: Tensor
    logits: Tensor


class BagClassifier(nn.Module):
    """The mean of token embeddings through two linear layers, with dropout; float64."""

    def __init__(self, *, words: int = 12, labels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embeddings = nn.Embedding(words, 6)
        self.hidden = nn.Linear(6, 5)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(5, labels)
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Output:
        words = self.embeddings(input_ids) * attention_mask[..., None]
        mean = words.sum(1) / attention_mask.sum(1, keepdim=True)
        logits = self.out(self.dropout(self.hidden(mean).tanh()))
        return Output(nn.functional.cross_entropy(logits, labels), logits)


def encoded(rows: Sequence[Sequence[int]], labels: Sequence[int], padding: int = 0) -> Encoded:
    """Rows of tokens with a label each, as a tokenizer's."""
    return Encoded(
        tuple(
            {"input_ids": tuple(row), "attention_mask": (1,) * len(row), "labels": label}
            for row, label in zip(rows, labels, strict=True)
        ),
        fill={"input_ids": padding},
    )


def examples(*, rows: int = 10, words: int = 12, labels: int = 3) -> Encoded:
    """Rows of 1 to 5 tokens, none of them the padding."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 6, (rows,), generator=generator).tolist()
    tokens = [torch.randint(1, words, (n,), generator=generator).tolist() for n in lengths]
    return encoded(tokens, torch.randint(0, labels, (rows,), generator=generator).tolist())


def perceptron(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two linear layers, 6·8 + 8·4 = 80 weights."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def losses(
    model: nn.Module, steps: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Iterator[Tensor]:
    """One loss a step on fresh random data."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        data = torch.randn(10, 6, generator=generator, dtype=dtype)
        target = torch.randn(10, 4, generator=generator, dtype=dtype)
        yield nn.functional.mse_loss(model(data), target)


def loss_on_rows(
    model: nn.Module, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Callable[[], float]:
    """The loss on the same random data each time, as the weights stand."""

    def loss() -> float:
        with torch.no_grad():
            return next(losses(model, 1, seed=seed, dtype=dtype)).item()

    return loss


def tiny(family: str, head: str, **changes: Any) -> nn.Module:
    """A random model of a transformers family, tiny; `head` as in BertForSequenceClassification.

    Skips the test where transformers is not installed.
    """
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 20,
    }
    if family == "DistilBert":
        sizes = {
            "vocab_size": len(WORDS),
            "dim": 8,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 16,
            "max_position_embeddings": 20,
        }
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**sizes, **changes})
    model = getattr(transformers, f"{family}{head}")(config)
    assert isinstance(model, nn.Module)
    return model


def save_tiny_bert(folder: Path) -> Path:
    """A folder with a random tiny BERT without a head, and a tokenizer of ten words."""
    transformers = pytest.importorskip("transformers")
    model: Any = tiny("Bert", "Model")
    model.save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)
    return folder


def tiny_batch() -> Batch:
    return {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "labels": torch.tensor([0, 1]),
    }

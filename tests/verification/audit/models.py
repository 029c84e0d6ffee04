"""Small models in files, dense and sparse, and their audit with every certificate checked."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pins.models.stored_model import StoredModel
from pins.models.weight_files import WEIGHTS
from verification.audit.run import AUDIT, Audit
from verification.certificates import fast_checker

Tensors = dict[str, Tensor]
Document = dict[str, Any]


def save_model(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, folder / WEIGHTS)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def llama(layers: int = 2, experts: int = 0) -> Tensors:
    """Random weights under the names and in the shapes of a Llama, or a Mixtral."""
    torch.manual_seed(0)
    shapes = {"model.embed_tokens.weight": (72, 16), "lm_head.weight": (72, 16)}
    for number in range(layers):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.self_attn.{each}_proj.weight": (16, 16) for each in "qo"}
        shapes |= {f"{layer}.self_attn.{each}_proj.weight": (8, 16) for each in "kv"}
        inner = {"gate_proj": (24, 16), "up_proj": (24, 16), "down_proj": (16, 24)}
        for place in [f"{layer}.mlp.experts.{i}" for i in range(experts)] or [f"{layer}.mlp"]:
            shapes |= {f"{place}.{each}.weight": shape for each, shape in inner.items()}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def gpt2() -> Tensors:
    """The same of a GPT-2 with one layer: matrices are (inputs, outputs)."""
    torch.manual_seed(0)
    layer = "transformer.h.0"
    shapes = {
        "transformer.wte.weight": (72, 16),
        f"{layer}.attn.c_attn.weight": (16, 48),
        f"{layer}.attn.c_attn.bias": (48,),
        f"{layer}.attn.c_proj.weight": (16, 16),
        f"{layer}.mlp.c_fc.weight": (16, 64),
        f"{layer}.mlp.c_proj.weight": (64, 16),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def tensors_of(folder: Path) -> Tensors:
    return load_file(folder / WEIGHTS)


def opened(folder: Path) -> StoredModel:
    return StoredModel.open(str(folder))


def prunable(name: str, tensor: Tensor) -> bool:
    return tensor.dim() > 1 and not any(each in name for each in ("embed", "wte", "wpe", "lm_head"))


def largest_of_rows(tensor: Tensor, keep: int) -> Tensor:
    """The mask of the largest |w| of each row, ties to the lower index."""
    order = tensor.abs().argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(tensor, dtype=torch.bool)
    return mask.scatter(1, order[:, :keep], True)


def audited(dense: Path, sparse: Path, out: Path | None = None) -> Document:
    """audit.json; every certificate that it names is proved."""
    out = out or sparse.parent / f"{sparse.name}-report"
    audit = Audit(str(dense), str(sparse), out)
    number = len([*audit.tensors()])
    document = audit.finish()
    assert number == len(audit) == len(document["layers"]) + len(document["vectors"])
    assert json.loads((out / AUDIT).read_text()) == document
    judged = [each for layer in document["layers"] for each in layer["criteria"]]
    for each in [*judged, *document["criteria"]]:
        if each["certificate"] is not None:
            assert fast_checker.check(out / each["certificate"]).outcome.name == "PROVED"
    return document


def pruned(tensors: Tensors, keep: Callable[[Tensor], Tensor]) -> Tensors:
    return {n: t * keep(t) if prunable(n, t) else t for n, t in tensors.items()}


def two_of_four(tensor: Tensor) -> Tensor:
    return largest_of_rows(tensor.reshape(-1, 4), 2).view(tensor.shape)

"""Which weights are prunable, and the reasons given for the others."""

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from pins.errors import ParameterError
from pins.models.parameters import PrunableParameters, prunable_parameters, views_of
from tests.pins.networks import perceptron, tiny


class Layers(nn.Module):
    """Linear layers of one size under the names given."""

    def __init__(self, *names: str, size: int = 2) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(size, size))

    def tie(self, first: str, *others: str) -> "Layers":
        for other in others:
            self.get_submodule(other).weight = self.get_submodule(first).weight
        return self


def together(found: PrunableParameters, model: nn.Module) -> list[str]:
    """All names, after a look that each tensor is there once and each name explained."""
    tensors = list(found.parameters.values())
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert found.parameters.keys() | found.left_out.keys() == every
    assert not found.parameters.keys() & found.left_out.keys()
    assert found.total == sum(tensor.numel() for tensor in tensors)
    return list(found.parameters)


def test_the_weights_of_linear_layers_in_model_order() -> None:
    model = perceptron()
    found = prunable_parameters(model)
    assert together(found, model) == ["0.weight", "2.weight"]
    assert found.parameters["0.weight"] is model[0].weight
    assert found.left_out == {"0.bias": "bias of Linear", "2.bias": "bias of Linear"}
    assert found.total == 6 * 8 + 8 * 4


def test_a_model_that_is_one_layer() -> None:
    assert list(prunable_parameters(nn.Linear(2, 3)).parameters) == ["weight"]


def test_norms_embeddings_and_convolutions_are_left_out() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Conv1d(4, 4, 1))
    found = prunable_parameters(model)
    assert together(found, model) == ["2.weight"]
    assert found.left_out["0.weight"] == "weight of Embedding"
    assert found.left_out["1.weight"] == "weight of LayerNorm"
    assert found.left_out["3.weight"] == "weight of Conv1d"


def test_frozen_weights_are_left_out() -> None:
    model = perceptron()
    model[0].weight.requires_grad_(False)
    found = prunable_parameters(model)
    assert together(found, model) == ["2.weight"]
    assert found.left_out["0.weight"] == "frozen"


def test_tied_weights_are_counted_once() -> None:
    model = Layers("a", "b", "c").tie("a", "b")
    found = prunable_parameters(model)
    assert together(found, model) == ["a.weight", "c.weight"]
    assert found.left_out["b.weight"] == "tied to a.weight, counted there"


def test_a_module_used_twice_is_counted_once() -> None:
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    found = prunable_parameters(model)
    assert together(found, model) == ["0.weight"]
    assert found.left_out["2.weight"] == "tied to 0.weight, counted there"


@pytest.mark.parametrize("include", ["^b", "^(b|c)", "^(a|b|c)", "^(b|c|d)"])
def test_weights_tied_three_times_are_counted_once_whatever_the_pattern(include: str) -> None:
    model = Layers("a", "b", "c", "d").tie("a", "b", "c", "d")
    assert len(together(prunable_parameters(model, include), model)) == 1


def test_weights_tied_to_what_is_left_out_are_counted_once() -> None:
    model = Layers("pooler", "first", "second").tie("pooler", "first", "second")
    assert len(together(prunable_parameters(model), model)) == 1


@pytest.mark.parametrize("embedding_first", [True, False])
def test_a_linear_layer_tied_to_an_embedding_is_left_out(embedding_first: bool) -> None:
    lookup, out = nn.Embedding(4, 3), nn.Linear(3, 4)
    out.weight = lookup.weight
    parts = [("lookup", lookup), ("inner", nn.Linear(3, 3)), ("out", out)]
    model = nn.Module()
    for name, part in parts if embedding_first else reversed(parts):
        model.add_module(name, part)
    found = prunable_parameters(model)
    assert together(found, model) == ["inner.weight"]
    assert found.left_out["out.weight"] == "tied to lookup.weight"
    with pytest.raises(ParameterError, match="has no prunable weight"):
        prunable_parameters(model, include="out")


def test_include_takes_exactly_what_it_matches() -> None:
    model = Layers("pooler", "encoder", "embeddings", "head")
    assert list(prunable_parameters(model).parameters) == ["encoder.weight", "head.weight"]
    found = prunable_parameters(model, include="pooler|head")
    assert together(found, model) == ["pooler.weight", "head.weight"]
    assert found.left_out["encoder.weight"] == "does not match 'pooler|head'"


def test_include_takes_the_head_of_a_model_with_a_base_model() -> None:
    model = tiny("Bert", "ForSequenceClassification")
    found = prunable_parameters(model, include="classifier|pooler")
    assert together(found, model) == ["bert.pooler.dense.weight", "classifier.weight"]


@pytest.mark.parametrize("include", ["(", "a{99999999999}", "(" * 5000 + ")" * 5000])
def test_include_that_is_no_pattern_is_one_line(include: str) -> None:
    with pytest.raises(ParameterError, match=r"\Ainclude is '.{0,70}, which is no regular .*\Z"):
        prunable_parameters(nn.Linear(2, 2), include=include)


def test_include_of_a_frozen_weight_is_refused() -> None:
    model = perceptron()
    model[2].weight.requires_grad_(False)
    with pytest.raises(
        ParameterError, match=r"2\.weight matches '2' and is frozen \(requires_grad=False\): thaw"
    ):
        prunable_parameters(model, include="2")


def test_an_include_that_is_no_pattern_is_refused() -> None:
    with pytest.raises(ParameterError, match=re.escape("'('")):
        prunable_parameters(perceptron(), include="(")


def test_other_types_can_be_pruned() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4))
    found = prunable_parameters(model, types=iter([nn.Embedding]))
    assert together(found, model) == ["0.weight"]


@pytest.mark.parametrize(
    ("model", "include", "message"),
    [
        (nn.ReLU(), None, r"ReLU has no prunable weight \(no parameters\): give include="),
        (nn.LayerNorm(2), None, r"LayerNorm has no prunable weight \(weight: weight of LayerNorm"),
        (nn.Linear(2, 2), "x", r"Linear has no prunable weight \(weight: does not match 'x'"),
    ],
)
def test_nothing_to_prune_says_why(model: nn.Module, include: str | None, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        prunable_parameters(model, include)


ENCODERS = {
    "Bert": ("bert", 6, {"bert.pooler.dense.weight": "pooler", "classifier.weight": "task head"}),
    "Roberta": (
        "roberta",
        6,
        {"classifier.dense.weight": "task head", "classifier.out_proj.weight": "task head"},
    ),
    "DistilBert": (
        "distilbert",
        6,
        {"pre_classifier.weight": "task head", "classifier.weight": "task head"},
    ),
    "Electra": (
        "electra",
        6,
        {"classifier.dense.weight": "task head", "classifier.out_proj.weight": "task head"},
    ),
}


@pytest.mark.parametrize("family", ENCODERS)
def test_the_linear_layers_of_the_encoder_and_no_others(family: str) -> None:
    prefix, each, head = ENCODERS[family]
    # ELECTRA's embeddings may be narrower than its layers; here they are as wide
    changes = {"embedding_size": 8} if family == "Electra" else {}
    model = tiny(family, "ForSequenceClassification", **changes)
    found = prunable_parameters(model)
    names = together(found, model)
    assert len(names) == 2 * each
    assert all(re.match(rf"{prefix}\.(encoder|transformer)\.layer\.\d\.", name) for name in names)
    assert found.total == 2 * (4 * 8 * 8 + 2 * 8 * 16)
    reasons = {name: found.left_out[name] for name in head}
    assert reasons == head
    embeddings = [name for name in found.left_out if "embeddings" in name]
    assert f"{prefix}.embeddings.word_embeddings.weight" in embeddings


def test_the_decoder_tied_to_the_embeddings_of_a_masked_language_model() -> None:
    model = tiny("Bert", "ForMaskedLM")
    found = prunable_parameters(model)
    together(found, model)
    assert (
        found.left_out["cls.predictions.decoder.weight"]
        == "tied to bert.embeddings.word_embeddings.weight"
    )


# family, head, changes of its configuration, a projection of its embeddings
PROJECTIONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("OPT", "ForCausalLM", {"word_embed_proj_dim": 4, "ffn_dim": 16}, "decoder.project_in"),
    ("Albert", "ForSequenceClassification", {"embedding_size": 4}, "embedding_hidden_mapping_in"),
    ("Electra", "ForSequenceClassification", {"embedding_size": 4}, "embeddings_project"),
    ("MobileBert", "ForSequenceClassification", {"embedding_size": 8, "true_hidden_size": 8,
     "intra_bottleneck_size": 8, "num_feedforward_networks": 1}, "embedding_transformation"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "head", "changes", "projection"), PROJECTIONS)
def test_projections_of_embeddings_are_left_out_in_every_architecture(
    family: str, head: str, changes: dict[str, Any], projection: str
) -> None:
    model = tiny(family, head, **changes)
    found = prunable_parameters(model)
    names = together(found, model)
    assert any(projection in name and name.endswith("weight") for name in found.left_out)
    assert names
    assert all(re.search(r"\.\d+\.", name) for name in names)  # in a block, by its number
    assert prunable_parameters(model, projection).parameters  # negative control: it is a matrix


EXPERTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Mixtral": ("ForCausalLM", {"num_local_experts": 4, "num_key_value_heads": 2}, "mlp.gate"),
    "Qwen2Moe": (
        "ForCausalLM",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
         "shared_expert_intermediate_size": 16, "num_key_value_heads": 2},
        "shared_expert_gate",
    ),
    "SwitchTransformers": (
        "ForConditionalGeneration",
        {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2, "num_experts": 4,
         "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        "router",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", EXPERTS)
def test_the_matrices_of_experts_are_prunable_and_their_routers_are_not(family: str) -> None:
    head, changes, router = EXPERTS[family]
    model = tiny(family, head, **changes)
    found = prunable_parameters(model)
    names = together(found, model)
    of_experts = [name for name in names if "experts" in name]
    # 2 blocks, or the sparse one of encoder and of decoder, of 4 experts
    inner = sum(found.parameters[name].numel() for name in of_experts)
    assert inner >= 2 * 4 * 2 * 8 * 16
    assert not [name for name in names if router in name]
    routers = [name for name in found.left_out if router in name and "weight" in name]
    assert routers


VIEWS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int, int, bool]]]] = {
    "GPT2": (
        {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16},
        {"attn.c_attn.weight": (1, 24, 8, True), "mlp.c_proj.weight": (1, 8, 32, True)},
    ),
    "GptOss": (
        {"num_local_experts": 4, "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 12},
        {
            "q_proj.weight": (1, 8, 8, False),
            "experts.gate_up_proj": (4, 24, 8, True),
            "experts.down_proj": (4, 8, 12, True),
        },
    ),
    "Mixtral": (
        {"num_local_experts": 4, "num_key_value_heads": 2},
        {"experts.gate_up_proj": (4, 32, 8, False), "experts.down_proj": (4, 8, 16, False)},
    ),
}


@pytest.mark.parametrize("family", VIEWS)
def test_a_row_holds_the_weights_of_one_output_however_it_is_stored(family: str) -> None:
    changes, expected = VIEWS[family]
    model = tiny(family, "LMHeadModel" if family == "GPT2" else "ForCausalLM", **changes)
    parameters = prunable_parameters(model).parameters
    found = views_of(model, parameters)
    assert {name: view.size for name, view in found.items()} == {
        name: parameter.numel() for name, parameter in parameters.items()
    }
    assert all(view.shape[-2:] == parameters[name].shape[-2:] for name, view in found.items())
    for end, view in expected.items():
        assert {found[name][:4] for name in found if name.endswith(end)} == {view}


def test_what_llama_4_does_not_say_of_its_experts_is_known() -> None:
    llama = pytest.importorskip("transformers.models.llama4.modeling_llama4")
    config = llama.Llama4TextConfig(hidden_size=8, intermediate_size=12, num_local_experts=2)
    experts = llama.Llama4TextExperts(config)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_()
        experts.gate_up_proj[:, :, 5] = 0  # one output: what it multiplies is gone everywhere
        inputs = torch.randn(6, 8)
        gate = torch.bmm(inputs.view(2, 3, 8), experts.gate_up_proj)
    assert not gate[..., 5].any()
    view = views_of(experts, dict(experts.named_parameters()))["gate_up_proj"]
    assert view[:4] == (2, 24, 8, True)
    rows = view.apply(experts.gate_up_proj).view(2, 24, 8)
    assert not rows[:, 5].any()


def wrapped(how: str) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    if how == "prune":
        prune.l1_unstructured(model[0], "weight", amount=0.3)  # type: ignore[no-untyped-call]
    else:
        parametrizations.weight_norm(model[0])
    return model


@pytest.mark.parametrize(
    ("how", "call"),
    [("prune", r"prune\.remove\("), ("weight_norm", r"parametrize\.remove_parametrizations\(")],
)
def test_a_weight_that_is_computed_from_others_is_refused(how: str, call: str) -> None:
    model = wrapped(how)
    with pytest.raises(ParameterError, match=rf"^0\.weight is computed .* call {call}"):
        prunable_parameters(model)
    assert list(prunable_parameters(model, "^1").parameters) == ["1.weight"]
    if how == "prune":
        prune.remove(model[0], "weight")  # type: ignore[no-untyped-call]
    else:
        parametrize.remove_parametrizations(model[0], "weight")
    assert prunable_parameters(model).parameters.keys() == {"0.weight", "1.weight"}


def test_choosing_changes_nothing() -> None:
    model = perceptron()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    prunable_parameters(model)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())

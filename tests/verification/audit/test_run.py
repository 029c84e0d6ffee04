"""An audit from files to audit.json: what is planted is found, and told in a sentence."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pins import masks
from pins.errors import CheckpointError, FileError, ModelError
from pins.models.sparse_bitmask import described
from tests.verification.audit.models import (
    Document,
    audited,
    largest_of_rows,
    llama,
    prunable,
    pruned,
    save_model,
    tensors_of,
    two_of_four,
)
from verification.audit.run import Audit

Q0, UP1 = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return save_model(tmp_path / "dense", llama())


def half_of_rows(tensor: Tensor) -> Tensor:
    return largest_of_rows(tensor, tensor.shape[1] // 2)


def layer_of(document: Document, name: str) -> Document:
    [found] = [each for each in document["layers"] if each["tensor"] == name]
    return dict(found)


def test_a_magnitude_mask_of_two_of_four_is_recognised_in_every_layer(
    dense: Path, tmp_path: Path
) -> None:
    tensors = pruned(tensors_of(dense), two_of_four)
    document = audited(dense, save_model(tmp_path / "sparse", tensors))
    assert document["coverage"] == 1
    own = [each for each in document["layers"] if each["pruned"]]
    assert len(own) == 14
    for each in own:
        assert each["pattern"]["name"] == "2:4 along the inputs"
        assert each["breaks"] == []
        assert 2 * each["kept"] == each["shape"][0] * each["shape"][1]
        [criterion] = each["criteria"]
        assert criterion["optimal"]
        assert each["certificates"] == [criterion["certificate"]]
        assert each["cost"] is None
    assert document["criteria"] == []  # of all matrices together it has a pattern
    assert "2 of 16 tensors are unchanged" in document["sentences"]
    assert layer_of(document, "lm_head.weight")["pattern"]["kind"] == "dense"


def test_one_row_off_by_one_and_one_zero_grown_back_are_told_and_get_no_gap(
    dense: Path, tmp_path: Path
) -> None:
    before = tensors_of(dense)
    tensors = pruned(before, half_of_rows)
    row = tensors[Q0][5]
    row[row.nonzero()[0]] = 0
    document = audited(dense, save_model(tmp_path / "rows", tensors))
    layer = layer_of(document, Q0)
    assert layer["breaks"] == [{"row": 5, "from": 0, "kept": 7, "expected": 8}]
    assert layer["criteria"] == layer["certificates"] == []
    assert layer_of(document, UP1)["criteria"][0]["optimal"]
    told = f"{Q0} breaks its pattern, 8 of 16 in each row: row 5 keeps 7, not 8; no gap is given"
    assert any(each.startswith(told) for each in document["sentences"])
    tensors = pruned(before, two_of_four)
    place = tuple((tensors[UP1] == 0).nonzero()[9].tolist())
    tensors[UP1][place] = before[UP1][place]
    document = audited(dense, save_model(tmp_path / "groups", tensors))
    [broken] = layer_of(document, UP1)["breaks"]
    assert broken == {"row": place[0], "from": place[1] // 4 * 4, "kept": 3, "expected": 2}
    assert layer_of(document, UP1)["criteria"] == []


def test_a_global_magnitude_mask_is_recognised_and_one_by_tensor_has_an_exact_regret(
    dense: Path, tmp_path: Path
) -> None:
    before = tensors_of(dense)
    own = {n: t for n, t in before.items() if prunable(n, t)}
    scores = torch.cat([t.abs().flatten() for t in own.values()])
    threshold = scores.sort().values[int(scores.numel() * 0.4)]
    document = audited(
        dense, save_model(tmp_path / "global", pruned(before, lambda t: t.abs() > threshold))
    )
    [whole] = document["criteria"]
    assert (whole["scope"], whole["optimal"]) == ("global", True)
    assert whole["certificate"] == "certificates/global.magnitude.json"

    def half(tensor: Tensor) -> Tensor:
        return largest_of_rows(tensor.reshape(1, -1), tensor.numel() * 2 // 5).view(tensor.shape)

    document = audited(dense, save_model(tmp_path / "tensor", pruned(before, half)))
    [whole] = document["criteria"]
    assert not whole["optimal"]
    kept = sum(int(half(t).sum()) for t in own.values())
    best = sum(map(Fraction, scores.sort(descending=True).values[:kept].tolist()))
    real = sum(sum(map(Fraction, t.abs()[half(t)].tolist())) for t in own.values())
    found = whole["regret"]
    assert Fraction(int(found["numerator"]), int(found["denominator"])) == best - real


def test_models_that_are_not_pruned(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense)
    document = audited(dense, save_model(tmp_path / "equal", tensors))
    equal = "the two models are equal: nothing is pruned, and no weight is changed"
    assert document["sentences"] == [equal]
    tensors[Q0] += 1
    document = audited(dense, save_model(tmp_path / "changed", tensors))
    changed = "nothing is pruned: 256 weights are changed, and none became zero"
    assert document["sentences"][0] == changed


def test_swapped_models_and_a_denser_one_are_told(dense: Path, tmp_path: Path) -> None:
    sparse = save_model(tmp_path / "sparse", pruned(tensors_of(dense), two_of_four))
    document = audited(sparse, dense)
    assert document["sentences"][0].endswith("are the two swapped?")
    tensors = pruned(tensors_of(dense), two_of_four)
    tensors[Q0] = torch.randn(16, 16)
    tensors[UP1][0] = 0
    denser = save_model(tmp_path / "denser", tensors)
    document = audited(sparse, denser)
    assert document["sentences"][0].startswith("the sparse model is denser than the dense one")


def test_rows_and_columns_in_another_order_and_a_merged_adapter_are_explained(
    dense: Path, tmp_path: Path
) -> None:
    tensors = pruned(tensors_of(dense), two_of_four)
    order = [3, 0, 1, 2, *range(4, 16)]
    tensors[Q0] = tensors[Q0][order]
    tensors[UP1] = tensors[UP1][:, order]
    other = "model.layers.0.mlp.gate_proj.weight"
    tensors[other] = tensors_of(dense)[other] + torch.randn(24, 2) @ torch.randn(2, 16)
    document = audited(dense, save_model(tmp_path / "sparse", tensors))
    moved = "are those of the dense model in another order: 0 is 3 there"
    assert layer_of(document, Q0)["explanation"] == f"its rows {moved}"
    assert layer_of(document, UP1)["explanation"] == f"its columns {moved}"
    assert layer_of(document, Q0)["criteria"] == []
    merged = layer_of(document, other)["explanation"]
    assert merged.startswith("99.9 % of the squared change has rank 2, as that of an adapter")
    assert f"{other}: {merged}" in document["sentences"]
    tensors[other] = torch.randn(24, 16)  # the control: of no rank
    document = audited(dense, save_model(tmp_path / "control", tensors))
    assert layer_of(document, other)["explanation"] is None


def test_what_is_zero_in_both_counts_whichever_way_fits(tmp_path: Path) -> None:
    before = llama()
    mask = two_of_four(before[Q0])
    before[Q0][2, 4:8] = 0
    dense = save_model(tmp_path / "dense", before)
    tensors = {**before, Q0: before[Q0] * mask}
    document = audited(dense, save_model(tmp_path / "sparse", tensors))
    layer = layer_of(document, Q0)
    assert (layer["free"], layer["kept"], layer["breaks"]) == (4, 128, [])
    assert layer["pattern"]["name"] == "2:4 along the inputs"
    assert layer["criteria"][0]["optimal"]
    assert any(
        each.startswith("4 weights are zero in both models") for each in document["sentences"]
    )


def test_masks_alone_are_audited(dense: Path, tmp_path: Path) -> None:
    made = {n: two_of_four(t) for n, t in tensors_of(dense).items() if prunable(n, t)}
    masks.save(made, tmp_path / "masks.safetensors")
    document = audited(dense, tmp_path / "masks.safetensors", tmp_path / "out")
    assert len(document["layers"]) == 14
    assert all(each["criteria"][0]["optimal"] for each in document["layers"])


def test_quantised_weights_are_audited_as_dequantised_and_it_is_said(tmp_path: Path) -> None:
    numbers = torch.randint(1, 100, (8, 16), generator=torch.Generator().manual_seed(0))
    numbers = (numbers * two_of_four(numbers.float())).to(torch.int8)
    scale = 2.0 ** -torch.arange(8)[:, None]
    dense = save_model(tmp_path / "dense", {"a.weight": torch.randn(8, 16)})
    stored = {"a.weight": numbers, "a.weight_scale": scale}
    document = audited(dense, save_model(tmp_path / "sparse", stored))
    [layer] = document["layers"]
    assert (layer["quantized"], layer["kept"], layer["changed"]) == (True, 64, 64)
    assert layer["pattern"]["name"] == "2:4 along the inputs"
    assert any(
        each.startswith("1 tensors are quantised (quantised): what is audited")
        for each in document["sentences"]
    )


def test_pruned_heads_rows_and_columns_are_counted(dense: Path, tmp_path: Path) -> None:
    tensors = tensors_of(dense)
    tensors[Q0][4:8] = 0  # the second of four heads
    tensors[UP1][:, 3] = 0
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    document = audited(dense, save_model(tmp_path / "sparse", tensors, **heads))
    layer = layer_of(document, Q0)
    assert (layer["dead_heads"], layer["dead_rows"], layer["dead_columns"]) == ([1], 4, 0)
    assert layer["pattern"]["name"] == "blocks of 4 × 16"
    assert {each["scope"] for each in layer["criteria"]} == {"block"}
    layer = layer_of(document, UP1)
    assert (layer["dead_heads"], layer["dead_rows"], layer["dead_columns"]) == (None, 0, 1)
    assert layer["pattern"]["name"] == "blocks of 24 × 1"
    other = "model.layers.0.self_attn.k_proj.weight"
    assert layer_of(document, other)["dead_heads"] == []


def config(**sparsity: Any) -> Document:
    made = described({"model_type": "llama"}, [])
    made["quantization_config"]["sparsity_config"] |= {"targets": ["Linear"], **sparsity}
    return made


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ({"global_sparsity": 0.5, "ignore": ["lm_head"]}, True),
        ({"global_sparsity": 0.5}, False),  # with the output matrix
        ({"sparsity_structure": "2:4", "ignore": ["lm_head"]}, True),
        ({"sparsity_structure": "1:4", "ignore": ["lm_head"]}, False),
    ],
)
def test_a_config_is_true_or_false(
    dense: Path, tmp_path: Path, said: Mapping[str, Any], true: bool
) -> None:
    tensors = pruned(tensors_of(dense), two_of_four)
    document = audited(dense, save_model(tmp_path / "sparse", tensors, **config(**said)))
    assert [each["true"] for each in document["claims"]] == [true]


def test_zeros_that_a_merge_brings_back_make_the_config_false(dense: Path, tmp_path: Path) -> None:
    tensors = pruned(tensors_of(dense), half_of_rows)
    said = config(global_sparsity=0.5, ignore=["lm_head"])
    honest = audited(dense, save_model(tmp_path / "honest", tensors, **said))
    assert honest["claims"][0]["true"]
    gone = [name for name in tensors if "q_proj" in name or "v_proj" in name]
    for name in gone:
        rows, columns = tensors[name].shape
        tensors[name] = tensors[name] + torch.randn(rows, 2) @ torch.randn(2, columns)
    document = audited(dense, save_model(tmp_path / "merged", tensors, **said))
    [claim] = document["claims"]
    assert (claim["key"], claim["claimed"], claim["true"]) == (
        "sparsity_config.global_sparsity", 0.5, False,
    )  # fmt: skip
    assert claim["found"] < 0.5
    for layer in document["layers"]:
        assert (layer["changed"] > 0) == (layer["tensor"] in gone)
        assert layer["tensor"] not in gone or not layer["pruned"]


def test_another_model_and_another_vocabulary_are_refused_in_one_line(
    dense: Path, tmp_path: Path
) -> None:
    tensors = tensors_of(dense)
    tensors["model.embed_tokens.weight"] = torch.ones(80, 16)
    other = save_model(tmp_path / "a", tensors)
    with pytest.raises(ModelError, match=r"only 79.6%.*another vocabulary: model.embed_tokens.w"):
        Audit(str(dense), str(other), tmp_path / "out")
    other = save_model(tmp_path / "b", {"x.weight": torch.ones(4, 4)})
    with pytest.raises(ModelError, match=r"only 0.0% .* \(none has x.weight, …\)"):
        Audit(str(dense), str(other), tmp_path / "out")


def test_an_interrupted_audit_goes_on_and_gives_the_same_bytes(dense: Path, tmp_path: Path) -> None:
    sparse = save_model(tmp_path / "sparse", pruned(tensors_of(dense), half_of_rows))
    whole = tmp_path / "whole"
    audited(dense, sparse, whole)
    out = tmp_path / "out"
    tensors = Audit(str(dense), str(sparse), out).tensors()
    for _ in range(5):
        next(tensors)
    done = (out / "layers" / "003.json").stat().st_mtime_ns
    (out / "layers" / "004.json").unlink()  # killed before it was written: its certificate is there
    audited(dense, sparse, out)
    assert (out / "layers" / "003.json").stat().st_mtime_ns == done
    files = [each.relative_to(whole) for each in whole.rglob("*") if each.is_file()]
    assert files
    for file in files:
        assert (out / file).read_bytes() == (whole / file).read_bytes(), file
    (out / "layers" / "003.json").write_bytes((whole / "layers" / "002.json").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"003.json is no JSON file.*torn"):
        audited(dense, sparse, out)
    (sparse / "config.json").write_text("{}")
    with pytest.raises(FileError, match="holds an audit of other files"):
        Audit(str(dense), str(sparse), out)
    other = save_model(tmp_path / "other", pruned(tensors_of(dense), two_of_four))
    with pytest.raises(FileError, match="holds an audit of other files"):
        Audit(str(dense), str(other), out)
    with pytest.raises(FileError, match="is not an empty folder"):
        Audit(str(dense), str(other), sparse)

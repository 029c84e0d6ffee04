import pytest
import torch
from hypothesis import given

from pins.errors import CardinalityError
from pins.selection.reach import reaches, total_reach
from pins.selection.tree import Node, Runs, TensorNode, View
from tests.tree_oracle import enumerate_tree
from verification.strategies import Tree, score_mappings, trees

REFUSED = r"no mask meets both$|are frozen as zero and as kept$"


@given(trees())
def test_a_tree_is_refused_iff_no_mask_is_allowed(tree: Tree) -> None:
    if enumerate_tree(*tree).values:
        kept = tree[1].minimum
        assert total_reach(tree[1]) == (kept, kept)
    else:
        with pytest.raises(CardinalityError, match=REFUSED):
            total_reach(tree[1])


def test_an_empty_node_and_an_empty_tensor_with_frozen_weights_keep_nothing() -> None:
    assert total_reach(Node("empty", ())) == (0, 0)
    nothing = torch.zeros(2, 0, dtype=torch.bool)
    node = TensorNode("w", View.of((2, 0)), runs=(Runs(2),), zeros=nothing)
    assert reaches(node)[-1] == (0, 0)


@given(score_mappings(zero_size=True))
def test_a_view_is_inverted_whatever_the_shape(tensors: dict[str, torch.Tensor]) -> None:
    for tensor in tensors.values():
        for transposed in (False, True)[: 1 + (tensor.dim() > 1)]:
            view = View.of(tensor.shape, transposed=transposed)
            assert torch.equal(view.invert(view.apply(tensor)).view(tensor.shape), tensor)

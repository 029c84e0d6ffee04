from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.runs.history import decision_row
from verification.strategies import masks, masks_for

Pair = tuple[dict[str, Tensor], dict[str, Tensor]]
PAIRS: st.SearchStrategy[Pair] = masks(min_tensors=1).flatmap(
    lambda before: st.tuples(st.just(before), masks_for(before))
)


@given(PAIRS)
def test_a_decision_is_counted_weight_by_weight(pair: Pair) -> None:
    before, after = pair
    row = decision_row(7, before, after)
    both = [
        (b, a)
        for name in before
        for b, a in zip(
            before[name].flatten().tolist(), after[name].flatten().tolist(), strict=True
        )
    ]
    assert row["step"] == 7
    assert row["total"] == len(both)
    assert row["keep"] == sum(a for _, a in both) == sum(row["each"])
    assert row["pruned"] == sum(b and not a for b, a in both)
    assert row["revived"] == sum(a and not b for b, a in both)
    assert row["each"] == [int(mask.sum()) for mask in after.values()]


@given(PAIRS)
def test_what_changes_sides_is_the_change_of_the_count(pair: Pair) -> None:
    before, after = pair
    row, back = decision_row(1, before, after), decision_row(1, after, before)
    kept_before = sum(int(mask.sum()) for mask in before.values())
    assert row["keep"] == kept_before - row["pruned"] + row["revived"]
    assert (row["pruned"], row["revived"]) == (back["revived"], back["pruned"])

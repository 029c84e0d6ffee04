"""What the audit found, as sentences that are true of the two models."""

from collections.abc import Mapping, Sequence
from typing import Any

from verification.audit.matching import Matching

SHOWN = 3  # names in a sentence


def sentences(matching: Matching, tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences, those about the two models as wholes first.

    Args:
        matching: of the models.
        tensors: the entries of audit.json, of matrices and of vectors.
    """
    found = [*_whole(tensors), *about_names(matching)]
    told = [each for each in tensors if each.get("explanation")]
    found += [f"{each['tensor']}: {each['explanation']}" for each in told]
    found += [_broken(each) for each in tensors if each.get("breaks")]
    forms = sorted({each["form"] for each in tensors if each["quantized"]})
    if forms:
        number = sum(each["quantized"] for each in tensors)
        found.append(
            f"{number} tensors are quantised ({', '.join(forms)}): what is audited are their "
            "numbers times their scales"
        )
    return found + _zeros(tensors)


def _whole(tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is odd about the two models."""
    pruned, grown, changed = (_total(tensors, key) for key in ("pruned", "grown", "changed"))
    both = _total(tensors, "free")
    if not pruned and not changed:
        return ["the two models are equal: nothing is pruned, and no weight is changed"]
    if not pruned and changed == grown:
        return [
            f"the dense model is the sparse one pruned: {grown:,} of its weights are zero that are "
            "not zero in the sparse one, and all others are equal; are the two swapped?"
        ]
    if grown > pruned:
        return [
            f"the sparse model is denser than the dense one: it has {pruned + both:,} zeros, the "
            f"dense one has {grown + both:,}"
        ]
    if not pruned:
        return [f"nothing is pruned: {changed:,} weights are changed, and none became zero"]
    return []


def about_names(matching: Matching) -> list[str]:
    """What the names and shapes alone tell."""
    found = []
    if (pair := matching.other_vocabulary) is not None:
        found.append(
            f"another vocabulary: {pair.name} has {pair.sparse.shape[0]:,} rows, in the dense "
            f"model {pair.dense.shape[0]:,}"
        )
    elif matching.misfits:
        pair = matching.misfits[0]
        found.append(
            f"{len(matching.misfits)} tensors have other shapes, as {pair.name}: "
            f"{[*pair.sparse.shape]}, in the dense model {[*pair.dense.shape]}"
        )
    if adapters := [name for name in matching.only_sparse if ".lora_" in name]:
        found.append(
            f"the sparse model holds {len(adapters)} tensors of an adapter that is not merged, as "
            f"{adapters[0]}: what it adds is not audited"
        )
    return found


def _broken(layer: Mapping[str, Any]) -> str:
    """Which rows of a layer break its pattern."""
    said = []
    for each in layer["breaks"][:SHOWN]:
        what = "row" if "row" in each else "column"
        whole = layer["pattern"]["kind"] in ("rows", "columns")
        of_many = "" if whole else f" from {each['from']}"
        said.append(f"{what} {each[what]}{of_many} keeps {each['kept']}, not {each['expected']}")
    more = len(layer["breaks"]) - len(said)
    return (
        f"{layer['tensor']} breaks its pattern, {layer['pattern']['name']}: {'; '.join(said)}"
        + (f"; and {more} more" if more else "")
        + "; no gap is given for it"
    )


def _zeros(tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    if number := _total(tensors, "free"):
        found.append(
            f"{number:,} weights are zero in both models: each counts whichever way fits the "
            "pattern"
        )
    if number := _total(tensors, "underflowed"):
        found.append(f"{number:,} of these are zero only by rounding to the sparse model's dtype")
    if (grown := _total(tensors, "grown")) and _total(tensors, "pruned"):
        found.append(f"{grown:,} weights are zero in the dense model and not in the sparse one")
    if changed := _total(tensors, "changed") - _total(tensors, "grown"):
        most = max(tensors, key=lambda each: each["largest_change"])
        kept = _total(tensors, "kept")
        found.append(
            f"{changed:,} of {kept:,} kept weights are changed, by at most "
            f"{most['largest_change']:.6g}, in {most['tensor']}"
        )
    elif _total(tensors, "pruned"):
        found.append("no kept weight is changed")
    frozen = sum(not each["pruned"] and not each["changed"] for each in tensors)
    if frozen and frozen < len(tensors):
        found.append(f"{frozen} of {len(tensors)} tensors are unchanged")
    return found


def _total(tensors: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(each[key] for each in tensors)

"""The laws of `verification.laws`, and one about ranks: the selection keeps them."""

import torch
from torch import Tensor

from pins.selection.select import select
from verification.claims.claim import Claim, Finding, Setting, search
from verification.laws import LAWS, Law, Scores, Selector, flat
from verification.testing.synthetic_scores import FAMILIES
from verification.testing.threaded_group import shards, together

CUTS = (0.3, 0.45)  # shares of a tensor at which its shards for three ranks begin


def closed_form(importance: Scores, keep: int) -> Tensor:
    """The k largest scores, ties to the lower index."""
    return flat(select(importance, keep))


def on_three_ranks(importance: Scores, keep: int) -> Tensor:
    """The selection by three ranks, each of which holds one shard of each tensor."""
    parts = shards(importance, CUTS)
    masks = together(len(parts), lambda rank: select(parts[rank.rank], keep, rank))
    return torch.cat([mask[name] for name in importance for mask in masks])


def independent_of_sharding(select: Selector, importance: Scores, keep: int) -> bool:
    """m of a selector that shards the scores = m of the closed form in one process."""
    return torch.equal(select(importance, keep), closed_form(importance, keep))


def first_k(importance: Scores, keep: int) -> Tensor:
    """A wrong selector: the first k, whatever their scores."""
    return torch.arange(flat(importance).numel()) < keep


def squared(importance: Scores, keep: int) -> Tensor:
    """A wrong selector: ranks by s²; a shift changes this order, a sign does not."""
    return select(flat(importance).square(), keep)


def largest_for_even_k(importance: Scores, keep: int) -> Tensor:
    """A wrong selector: the k largest for even k, the k smallest for odd k."""
    return select(flat(importance) if keep % 2 == 0 else -flat(importance), keep)


def all_ties_kept(importance: Scores, keep: int) -> Tensor:
    """A wrong selector, and a common one: keeps each score ≥ the k-th largest, ties included."""
    scores = flat(importance)
    if keep == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return scores >= scores.sort(descending=True).values[keep - 1]


def share_of_each_tensor(importance: Scores, keep: int) -> Tensor:
    """A wrong selector: optimal in each tensor, but each tensor keeps its own share of k."""
    total = flat(importance).numel()
    masks, seen, kept = [], 0, 0
    for scores in importance.values():
        seen += scores.numel()
        share = keep * seen // total - kept
        kept += share
        masks.append(select(scores.reshape(-1), share) if scores.numel() else scores.bool())
    return torch.cat([mask.reshape(-1) for mask in masks])


def share_of_each_rank(importance: Scores, keep: int) -> Tensor:
    """A wrong selector: each of three ranks keeps its own share of k."""
    parts = shards({"": flat(importance)}, CUTS)
    return share_of_each_tensor({str(rank): part[""] for rank, part in enumerate(parts)}, keep)


def hunt(setting: Setting, law: Law, selector: Selector) -> Finding:
    """Search for scores and a k on which the selector breaks the law."""
    rng, cases = setting.rng(), 0
    tried = "{} selections, five families of scores, ties among them"
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(20, 200)):
            scores = family(rng, int(rng.integers(2, 300)))
            keep = int(rng.integers(0, scores.numel() + 1))
            if law.integers:
                scores = (scores.clamp(-1e3, 1e3) * 16).round()
            head, tail = scores.tensor_split([max(scores.numel() // 3, 1)])
            cases += 1
            if not law.holds(selector, {"head": head, "tail": tail}, keep):
                wrong = f"fails on {name}, n = {scores.numel()}, k = {keep}"
                return search(tried.format(cases), [wrong])
    return search(tried.format(cases), [])


def _claim(law: Law, rival: Selector, rival_name: str, right: Selector = closed_form) -> Claim:
    return Claim(
        id=f"law-{law.name}",
        statement=law.statement,
        scope="n ≤ 300, random k, synthetic scores",
        source="Theorem 1 with the tie rule",
        check=lambda setting: hunt(setting, law, right),
        control_statement=f"the law holds for {rival_name}",
        control=lambda setting: hunt(setting, law, rival),
    )


_LAWS = {law.name: law for law in LAWS}
_RANKS = Law(
    "ranks", "How the tensors are cut over ranks does not matter.", independent_of_sharding
)
CLAIMS = (
    _claim(_LAWS["exact-count"], all_ties_kept, "the mask of all scores ≥ the k-th largest"),
    _claim(_LAWS["permutation"], first_k, "keeping the first k"),
    _claim(_LAWS["affine"], squared, "ranking by s²"),
    _claim(_LAWS["nesting"], largest_for_even_k, "a rule that turns round with k"),
    _claim(_LAWS["complement"], squared, "ranking by s²"),
    _claim(_LAWS["concatenation"], share_of_each_tensor, "giving each tensor its share"),
    _claim(_RANKS, share_of_each_rank, "each rank selecting its share by itself", on_three_ranks),
)

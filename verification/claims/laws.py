"""Laws of the selection: what must not change the answer, and how the answer must change."""

from collections.abc import Callable

import torch
from torch import Tensor

from pins.selection.select import select
from verification.claims.claim import Claim, Finding, Setting, search
from verification.testing.synthetic_scores import FAMILIES
from verification.testing.threaded_group import shards, together

Selector = Callable[[Tensor, int], Tensor]
Law = Callable[[Selector, Tensor, int], bool]


def permutation(selector: Selector, scores: Tensor, keep: int) -> bool:
    """Mask of permuted scores = permuted mask; where scores are distinct, for ties go by index."""
    scores = torch.unique(scores)
    keep = min(keep, scores.numel())
    order = torch.arange(scores.numel() - 1, -1, -1)
    return torch.equal(selector(scores[order], keep), selector(scores, keep)[order])


def affine(selector: Selector, scores: Tensor, keep: int) -> bool:
    """Mask of a·s + b, a > 0, = mask of s; on integers, where a·s + b is exact."""
    whole = (scores.sign() * scores.abs().clamp(max=1e3) * 16).round()
    return torch.equal(selector(4 * whole + 96, keep), selector(whole, keep))


def nesting(selector: Selector, scores: Tensor, keep: int) -> bool:
    """What is kept of k is kept of k+1."""
    more = min(keep + 1, scores.numel())
    return not bool((selector(scores, keep) & ~selector(scores, more)).any())


def complement(selector: Selector, scores: Tensor, keep: int) -> bool:
    """Pruning n−k is keeping n−k of −s; read backwards, since ties go to the lower index."""
    other = selector(-scores.flip(0), scores.numel() - keep).flip(0)
    return torch.equal(selector(scores, keep), ~other)


def concatenation(selector: Selector, scores: Tensor, keep: int) -> bool:
    """One decision over the parts of a model = the decision over all of it in one tensor."""
    cut = max(scores.numel() // 3, 1)
    parts = [scores[:cut], scores[cut:]]
    together = selector(scores, keep)
    if selector is select:
        return torch.equal(torch.cat(list(select(parts, keep))), together)
    apart = [selector(p, round(keep * p.numel() / scores.numel())) for p in parts]
    return torch.equal(torch.cat(apart), together)


def ranks(selector: Selector, scores: Tensor, keep: int) -> bool:
    """What three ranks decide, each of its part of the scores, = the decision over all of them."""
    parts = [part["scores"] for part in shards({"scores": scores}, (0.3, 0.45))]
    if selector is select:
        apart = together(len(parts), lambda rank: select(parts[rank.rank], keep, rank))
    else:
        shares = [round(keep * p.numel() / scores.numel()) for p in parts]
        apart = [
            selector(p, k) if p.numel() else p.bool() for p, k in zip(parts, shares, strict=True)
        ]
    return torch.equal(torch.cat(apart), selector(scores, keep))


def exact_count(selector: Selector, scores: Tensor, keep: int) -> bool:
    """Σm = k, ties or not."""
    return int(selector(scores, keep).sum()) == keep


def first_k(scores: Tensor, keep: int) -> Tensor:
    """A wrong selector: the first k, whatever their scores."""
    return torch.arange(scores.numel()) < keep


def squared(scores: Tensor, keep: int) -> Tensor:
    """A wrong selector: ranks by s², which a shift reorders and a sign does not."""
    return select(scores.square(), keep)


def alternating(scores: Tensor, keep: int) -> Tensor:
    """A wrong selector: the largest for even k, the smallest for odd k."""
    return select(scores if keep % 2 == 0 else -scores, keep)


def above_threshold(scores: Tensor, keep: int) -> Tensor:
    """A wrong selector, and a common one: keep what is ≥ the k-th largest score, ties and all."""
    if keep == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return scores >= scores.sort(descending=True).values[keep - 1]


def each_its_share(scores: Tensor, keep: int) -> Tensor:
    """A wrong selector only across parts: right in one, but each of several gets its own share."""
    return select(scores, keep)


def hunt(setting: Setting, law: Law, selector: Selector) -> Finding:
    """Look for scores and a k on which the law fails."""
    rng, wrong, cases = setting.rng(), [], 0
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(20, 200)):
            scores = family(rng, int(rng.integers(2, 300)))
            keep = int(rng.integers(0, scores.numel() + 1))
            cases += 1
            if not law(selector, scores, keep):
                wrong.append(f"fails on {name}, n = {scores.numel()}, k = {keep}")
    return search(f"{cases} selections, five families of scores, ties among them", wrong)


def _claim(name: str, statement: str, law: Law, rival: Selector, rival_name: str) -> Claim:
    return Claim(
        id=f"law-{name}",
        statement=statement,
        scope="n ≤ 300, random k, synthetic scores",
        source="Theorem 1 with the tie rule",
        check=lambda setting: hunt(setting, law, select),
        control_statement=f"the law holds for {rival_name}",
        control=lambda setting: hunt(setting, law, rival),
    )


CLAIMS = (
    _claim(
        "exact-count",
        "The mask keeps exactly k weights, whatever the ties.",
        exact_count,
        above_threshold,
        "the mask of all scores ≥ the k-th largest",
    ),
    _claim(
        "permutation",
        "Permuting distinct scores permutes the mask.",
        permutation,
        first_k,
        "keeping the first k",
    ),
    _claim(
        "affine",
        "a·s + b with a > 0 has the same mask as s.",
        affine,
        squared,
        "ranking by s²",
    ),
    _claim(
        "nesting",
        "The weights kept of k are kept of k+1.",
        nesting,
        alternating,
        "a rule that turns round with k",
    ),
    _claim(
        "complement",
        "Keeping k of s is pruning n−k of −s.",
        complement,
        squared,
        "ranking by s²",
    ),
    _claim(
        "concatenation",
        "How a model is cut into tensors does not matter.",
        concatenation,
        each_its_share,
        "giving each tensor its share",
    ),
    _claim(
        "ranks",
        "How the tensors are cut over ranks does not matter.",
        ranks,
        each_its_share,
        "each rank selecting its share by itself",
    ),
)

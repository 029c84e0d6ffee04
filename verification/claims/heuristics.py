"""The exact regret of the usual heuristics on all prunable weights of a real model."""

from pins.selection.select import select
from verification.certificates.regret import Regret, regret
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.solver_comparison import KEPT_RATIO, kept
from verification.laws import flat

HEURISTICS = ("magnitude", "sensitivity", "movement", "abs-pins")


def regrets(setting: Setting) -> dict[str, Regret]:
    """The regret of each heuristic's mask under the scores of the criterion pins."""
    scores = setting.real.importance("pins")
    keep = kept(scores)
    return {n: regret(scores, select(setting.real.importance(n), keep)) for n in HEURISTICS}


def never_better(setting: Setting) -> Finding:
    """The regret of every heuristic is ≥ 0, and > 0 iff it keeps other weights."""
    found = setting.shared(regrets)
    wrong = [
        f"{name}: regret {float(r.exact):.3g} with {r.overlap.first_only} weights exchanged"
        for name, r in found.items()
        if r.exact < 0 or (r.exact > 0) != (r.overlap.first_only > 0)
    ]
    total = sum(weight.numel() for weight in setting.real.before.values())
    told = ", ".join(f"{name} {100 * r.relative:.3g} %" for name, r in found.items())
    numbers = {
        name: {
            "regret": float(r.exact),
            "relative_regret": r.relative,
            "overlap_of_kept": r.overlap.kept_jaccard,
            "misplaced": r.overlap.first_only + r.overlap.second_only,
        }
        for name, r in found.items()
    }
    return search(f"regret as a share of Σ|s| over {total:,} weights: {told}", wrong, **numbers)


def heuristics_are_optimal(setting: Setting) -> Finding:
    """The control: magnitude and abs-pins have no regret."""
    found = {name: setting.shared(regrets)[name] for name in ("magnitude", "abs-pins")}
    return search(
        "regret of magnitude and abs-pins",
        [f"{name} loses {100 * r.relative:.3g} %" for name, r in found.items() if r.exact > 0],
    )


def chunking(setting: Setting, *, global_ranking: bool) -> Finding:
    """Compare the decision over the model's tensors with the decision over one long tensor."""
    scores = setting.real.importance("pins")
    together = select(flat(scores), kept(scores))
    apart = (
        select(scores, kept(scores))
        if global_ranking
        else {name: select(s, kept({name: s})) for name, s in scores.items()}
    )
    differing = int((flat(apart) ^ together).sum())
    wrong = [f"{differing:,} weights decided differently"] if differing else []
    return search(f"{len(scores)} tensors, {together.numel():,} weights, same mask", wrong)


CLAIMS = (
    Claim(
        id="regret-real",
        statement="No heuristic beats the closed form on a real model; each loses what is shown.",
        scope=f"all prunable weights, real gradient, {KEPT_RATIO:.0%} kept; exact regret",
        source="Theorem 1; regret by LP duality",
        check=never_better,
        control_statement="magnitude and abs-pins are optimal as well",
        control=heuristics_are_optimal,
    ),
    Claim(
        id="chunking-real",
        statement="The model's decision is that over one long tensor, bit for bit.",
        scope=f"all prunable weights, real gradient, {KEPT_RATIO:.0%} kept",
        source="Theorem 1 with the tie rule",
        check=lambda setting: chunking(setting, global_ranking=True),
        control_statement="so is the decision taken tensor by tensor",
        control=lambda setting: chunking(setting, global_ranking=False),
    ),
)

/**
 * The program max s·m subject to 1·m = k, m ∈ {0,1}ⁿ: its optimum, its dual, its proof.
 *
 * Scores are compared and never added as floats; sums are exact (floats.js). A mask is an array of
 * booleans, true = keep.
 */

/** The weights from the largest score to the least; of equal scores, −0 and 0 too, by index. */
function ranking(scores, higherFirst = false) {
  const direction = higherFirst ? -1 : 1;
  return Array.from(scores, (_, i) => i).sort(
    (i, j) => Number(scores[i] < scores[j]) - Number(scores[i] > scores[j]) || direction * (i - j),
  );
}

/** The dual interval [s₍ₖ₊₁₎, s₍ₖ₎]; −∞ or ∞ if nothing is pruned or nothing kept. */
function dualInterval(scores, keep) {
  const order = ranking(scores);
  return {
    low: keep < order.length ? scores[order[keep]] : -Infinity,
    high: keep > 0 ? scores[order[keep - 1]] : Infinity,
  };
}

/** λ of the proof: s₍ₖ₎, or s₍₁₎ if nothing is kept. */
function dualMultiplier({ low, high }) {
  return high === Infinity ? low : high;
}

/**
 * A mask of the k largest scores, by the rule for scores that tie at the threshold.
 *
 * `lower` and `higher` keep exactly k: among equals the lower, the higher index. `kept` keeps all
 * scores ≥ s₍ₖ₎ and `pruned` all > s₍ₖ₊₁₎: too many, or too few, if these two are equal.
 */
function select(scores, keep, ties = "lower") {
  const { low, high } = dualInterval(scores, keep);
  if (ties === "kept") return Array.from(scores, (score) => score >= high);
  if (ties === "pruned") return Array.from(scores, (score) => score > low);
  const kept = Array.from(scores, () => false);
  for (const i of ranking(scores, ties === "higher").slice(0, keep)) kept[i] = true;
  return kept;
}

/** Σm. */
function ones(kept) {
  return kept.filter(Boolean).length;
}

/** s·m. */
function value(scores, kept) {
  return exactSum(Array.from(scores).filter((_, i) => kept[i]));
}

/** kλ + Σ max(0, sᵢ − λ). */
function dualValue(scores, keep, multiplier) {
  const above = Array.from(scores).filter((score) => score > multiplier);
  return total([exactSum(above), times(keep - above.length, dyadic(multiplier))]);
}

/** The kept weight of least score and the pruned one of greatest, the first of equals; or −1. */
function ends(scores, kept) {
  let [least, greatest] = [-1, -1];
  kept.forEach((keeps, i) => {
    if (keeps && (least < 0 || scores[i] < scores[least])) least = i;
    if (!keeps && (greatest < 0 || scores[i] > scores[greatest])) greatest = i;
  });
  return { least, greatest };
}

/**
 * The regret of a mask against the best with as many ones: R = s·m* − s·m, exactly.
 *
 * `best` is m*; `gain` is the gain by exchanging the weights of `ends`; no exchange gains more.
 */
function regret(scores, kept) {
  const best = select(scores, ones(kept));
  const { least, greatest } = ends(scores, kept);
  const exchanged = kept.filter((keeps, i) => keeps && !best[i]).length;
  return {
    best,
    exact: difference(value(scores, best), value(scores, kept)),
    scale: exactSum(Array.from(scores, Math.abs)),
    exchanged,
    least,
    greatest,
    gain: exchanged ? difference(dyadic(scores[greatest]), dyadic(scores[least])) : { n: 0n, e: 0 },
  };
}

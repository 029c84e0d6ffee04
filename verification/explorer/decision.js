/** One pruning decision: settings → scores, mask, proof and regret. */

/**
 * The ranking r decides; the objective is s of PINS, at the same η and precision.
 *
 * settings: {criterion, keep, rate, multiplier, precision, ties}.
 */
function solve(layer, settings) {
  const r = scoresOf(layer, settings.criterion, settings);
  const s = scoresOf(layer, "pins", settings);
  const kept = select(r, settings.keep, settings.ties);
  return { ...proof(r, settings.keep, kept), layer, settings, s, regret: regret(s, kept) };
}

/**
 * The proof, or the refutation, that a mask is optimal under the scores r and keeps k.
 *
 * `feasible`: it keeps k. `optimal`: it does, and no kept score is below a pruned one. `unique`: no
 * kept score is equal to a pruned one. `tied` are the weights whose score is on both sides of the
 * threshold. The primal value is r·m, the dual that of λ: equal iff the mask is optimal, for a mask
 * that keeps k.
 */
function proof(r, keep, kept) {
  const order = ranking(r);
  const interval = dualInterval(r, keep);
  const multiplier = dualMultiplier(interval);
  const { least, greatest } = ends(r, kept);
  const apart = least < 0 || greatest < 0;
  const tied = interval.low === interval.high ? order.filter((i) => r[i] === interval.low) : [];
  const primal = value(r, kept);
  const dual = dualValue(r, keep, multiplier);
  const feasible = ones(kept) === keep;
  return {
    r,
    order,
    keep,
    kept,
    count: ones(kept),
    interval,
    multiplier,
    least,
    greatest,
    feasible,
    optimal: feasible && (apart || r[least] >= r[greatest]),
    unique: apart || r[least] > r[greatest],
    tied,
    distinct: new Set(Array.from(r, (score) => score + 0)).size, // −0 + 0 is 0
    primal,
    dual,
    gap: difference(dual, primal),
  };
}

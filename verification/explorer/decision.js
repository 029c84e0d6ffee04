/** One pruning decision: settings → scores, mask, proof and regret. */

/**
 * The ranking r decides; the objective is s of PINS, at the same η and precision.
 *
 * settings: {criterion, bounds, keep, rate, multiplier, precision, ties}.
 */
function solve(layer, settings) {
  const r = scoresOf(layer, settings.criterion, settings);
  const s = scoresOf(layer, "pins", settings);
  const tree = treeOf(settings.bounds, r.length, settings.keep);
  const kept = select(r, tree, settings.ties);
  const asMany = [...tree.slice(0, -1), bounded(r.length, ones(kept), ones(kept))];
  return { ...proof(r, tree, kept), layer, settings, s, regret: regret(s, asMany, kept) };
}

/**
 * The proof, or the refutation, that a mask is optimal under the scores r in a tree of bounds.
 *
 * `best` is the optimum by index; `nodes` are its, and prove it: no node has a > b. `free` has the
 * scores that the root may exchange, in descending order, and how many of them are kept.
 * `feasible`: the mask meets the bounds. `optimal`: it does, and no node has a > b. `unique`: every
 * node has a < b. `tied` are the weights that another optimum changes. The primal value is r·m, the
 * dual that of the thresholds: equal iff the mask is optimal, for a feasible mask.
 */
function proof(r, tree, kept) {
  const order = ranking(r);
  const { kept: best, free } = closedForm(tree, order);
  const nodes = withThresholds(r, best, nodesOf(r, best, tree));
  const own = nodesOf(r, kept, tree);
  const inAll = (holds) => own.every((level) => level.ones.every((_, node) => holds(level, node)));
  const apart = (close) => ({ gain, lose }, node) => !close(r[gain[node]], r[lose[node]]);
  const feasible = inAll((level, node) => {
    return level.minimum <= level.ones[node] && level.ones[node] <= level.maximum;
  });
  const primal = value(r, kept);
  const dual = dualValue(r, nodes);
  return {
    r,
    order,
    tree,
    keep: tree.at(-1).minimum,
    kept,
    count: ones(kept),
    best,
    nodes,
    free: { scores: free.map((i) => r[i]), keep: free.filter((i) => best[i]).length },
    interval: dualInterval(r, nodes),
    multiplier: nodes.at(-1).thresholds[0],
    feasible,
    optimal: feasible && inAll(apart((a, b) => a > b)),
    unique: inAll(apart((a, b) => a >= b)),
    tied: tiedWeights(r, best, nodes),
    distinct: new Set(Array.from(r, (score) => score + 0)).size, // −0 + 0 is 0
    primal,
    dual,
    gap: difference(dual, primal),
  };
}

/**
 * Scores of a layer; larger = keep. θ, g, h are float32, every operation rounds to a double, in the
 * order of pins/criteria.py and pins/trust_region_criterion.py: so the bits are theirs.
 */

/** after = θ − ηg: the weights that a mask is applied to. */
function stepped(layer, rate) {
  return layer.weights.map((weight, i) => weight - rate * layer.gradient[i]);
}

/** By name: (layer, after, μ) → scores. */
const CRITERIA = {
  // r = c + μs with c = ½(h+δ)·after²; μ is a power of two, so that μs is exact and r rounded once
  path: (layer, after, multiplier) => {
    const importance = CRITERIA.pins(layer, after);
    if (multiplier === Infinity) return importance;
    const cost = after.map((w, i) => (layer.curvature[i] + layer.offset) * 0.5 * w * w);
    return multiplier === 0 ? cost : cost.map((c, i) => c + multiplier * importance[i]);
  },
  pins: (layer, after) => after.map((w, i) => -layer.gradient[i] * w),
  "abs-pins": (layer, after) => after.map((w, i) => Math.abs(layer.gradient[i] * w)),
  magnitude: (layer, after) => after.map(Math.abs),
  sensitivity: (layer) => layer.weights.map((w, i) => Math.abs(layer.gradient[i] * w)),
  movement: (layer) => layer.weights.map((w, i) => -layer.gradient[i] * w),
  obd: (layer, after) => after.map((w, i) => 0.5 * layer.curvature[i] * (w * w)),
};

/** The scores of a criterion, rounded to a precision. */
function scoresOf(layer, criterion, { rate, multiplier, precision }) {
  const scores = CRITERIA[criterion](layer, stepped(layer, rate), multiplier);
  const rounded = scores.map(ROUNDINGS[precision]);
  const bad = rounded.findIndex((score) => !Number.isFinite(score));
  if (bad >= 0) {
    throw new RangeError(
      `${layer.name}[${layer.index[bad]}] has the score ${rounded[bad]} in ${precision}: ` +
        "choose another precision",
    );
  }
  return rounded;
}

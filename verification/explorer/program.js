/**
 * The program max s·m over the masks of a tree of bounds (bounds.js): optimum, dual, proof.
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

/**
 * The optimum: from the inside to the outside, each node forces the best free weights up to its
 * minimum, and excludes the worst ones down to its maximum.
 *
 * `free` are the weights that no node inside the root has decided, in the order of the ranking.
 */
function closedForm(tree, order) {
  const sides = new Int8Array(order.length); // 1 forced, −1 excluded, 0 free
  let free = order;
  for (const { length, minimum, maximum } of tree) {
    free = order.filter((i) => sides[i] === 0);
    settle(sides, free, 1, length, minimum);
    settle(sides, free.toReversed(), -1, length, length - maximum);
  }
  return { kept: Array.from(sides, (side) => side === 1), free };
}

/** Put the first free weights of each node on a side, until `least` are there. */
function settle(sides, free, side, length, least) {
  const counts = new Int32Array(sides.length / length);
  sides.forEach((own, i) => (counts[Math.floor(i / length)] += own === side));
  for (const i of free) {
    const node = Math.floor(i / length);
    if (sides[i] !== 0 || counts[node] >= least) continue;
    sides[i] = side;
    counts[node] += 1;
  }
  const most = counts.find((number) => number < least);
  if (most !== undefined) {
    const asked = `${least} of ${length} weights are to be ${side > 0 ? "kept" : "pruned"}`;
    throw new RangeError(`No mask: ${asked}, the bounds allow ${most}: choose another sparsity`);
  }
}

/**
 * An optimal mask, by the rule for equal scores.
 *
 * `lower` and `higher` keep exactly k: among equals the lower, the higher index. `kept` keeps all
 * scores ≥ s₍ₖ₎ and `pruned` all > s₍ₖ₊₁₎, for the root alone: too many, or too few, if these two
 * are equal.
 */
function select(scores, tree, ties = "lower") {
  const { kept } = closedForm(tree, ranking(scores, ties === "higher"));
  if (ties === "lower" || ties === "higher") return kept;
  const { low, high } = dualInterval(scores, nodesOf(scores, kept, tree));
  return Array.from(scores, (score) => (ties === "kept" ? score >= high : score > low));
}

/**
 * The levels of a tree with what decides in each node A: `ones`, the number m(A) of kept weights;
 * `gain` and `lose`, the weights that have the scores a_A and b_A, or −1.
 *
 * a_A is the greatest score that A may gain: of its pruned weights, and a_C of its parts C with
 * m(C) below the maximum. b_A is the least that it may lose, likewise.
 */
function nodesOf(scores, kept, tree) {
  const places = kept.map((_, i) => i);
  let inner = { length: 1, minimum: 0, maximum: 1, ones: kept, gain: places, lose: places };
  return tree.map((level) => {
    const none = () => new Int32Array(kept.length / level.length);
    const [ones, gain, lose] = [none(), none().fill(-1), none().fill(-1)];
    inner.ones.forEach((number, part) => {
      const node = Math.floor((part * inner.length) / level.length);
      const [more, less] = [inner.gain[part], inner.lose[part]];
      ones[node] += Number(number);
      if (number < inner.maximum && more >= 0 && !(scores[more] <= scores[gain[node]])) {
        gain[node] = more; // the first of equals: NaN without any, which is not ≤
      }
      if (number > inner.minimum && less >= 0 && !(scores[less] > scores[lose[node]])) {
        lose[node] = less; // the last of equals
      }
    });
    inner = { ...level, ones, gain, lose };
    return inner;
  });
}

/** The interval of λ, [a, b] of the root; −∞ or ∞ if it may gain or lose nothing. */
function dualInterval(scores, nodes) {
  const { gain, lose } = nodes.at(-1);
  return { low: scores[gain[0]] ?? -Infinity, high: scores[lose[0]] ?? Infinity };
}

/**
 * The levels with `thresholds` t_A = clip(t_parent, a_A, b_A); around the root it is the least kept
 * score, or without one the greatest pruned score.
 */
function withThresholds(scores, kept, nodes) {
  const [{ gain, lose, length }] = nodesOf(scores, kept, [bounded(kept.length, 0, kept.length)]);
  let outer = { length, thresholds: [scores[lose[0] >= 0 ? lose[0] : gain[0]]] };
  const downwards = nodes.toReversed().map((level) => {
    const clipped = (less, node) => {
      let threshold = thresholdAround(level, node, outer);
      if (scores[level.gain[node]] > threshold) threshold = scores[level.gain[node]];
      return scores[less] < threshold ? scores[less] : threshold;
    };
    outer = { ...level, thresholds: Array.from(level.lose, clipped) };
    return outer;
  });
  return downwards.reverse();
}

/** The threshold of the node that holds node A of an inner level. */
function thresholdAround({ length }, node, outer) {
  return outer.thresholds[Math.floor((node * length) / outer.length)];
}

/** Σm. */
function ones(kept) {
  return kept.filter(Boolean).length;
}

/** s·m. */
function value(scores, kept) {
  return exactSum(Array.from(scores).filter((_, i) => kept[i]));
}

/**
 * Σ (sᵢ − t)⁺ + Σ (h·y⁺ − l·y⁻): t of the innermost node of weight i, y = t_A − t_parent of each
 * node A, t_parent = 0 for the root, l and h its minimum and maximum.
 */
function dualValue(scores, nodes) {
  const terms = [];
  const add = (count, number) => terms.push(times(count, dyadic(number)));
  scores.forEach((score, i) => {
    const threshold = nodes[0].thresholds[Math.floor(i / nodes[0].length)];
    if (!(score > threshold)) return;
    add(1, score);
    add(-1, threshold);
  });
  nodes.forEach((level, depth) => {
    level.thresholds.forEach((threshold, node) => {
      const outer = nodes[depth + 1];
      const around = outer ? thresholdAround(level, node, outer) : 0;
      const count = threshold > around ? level.maximum : level.minimum;
      if (threshold === around) return;
      add(count, threshold);
      add(-count, around);
    });
  });
  return total(terms);
}

/** The weights whose state another optimum changes: equal scores that a node may exchange. */
function tiedWeights(scores, kept, nodes) {
  const isTied = (score, i) => {
    for (const { length, minimum, maximum, ones, gain, lose } of nodes) {
      const node = Math.floor(i / length);
      if (scores[gain[node]] === score && scores[lose[node]] === score) return true;
      if (kept[i] ? ones[node] <= minimum : ones[node] >= maximum) return false;
    }
    return false;
  };
  return Array.from(scores.keys()).filter((i) => isTied(scores[i], i));
}

/** The regret of a mask against the best of a tree: R = s·m* − s·m, exactly; `best` is m*. */
function regret(scores, tree, kept) {
  const best = select(scores, tree);
  const changed = Array.from(scores.keys()).filter((i) => kept[i] !== best[i]);
  return {
    best,
    exact: exactSum(changed.map((i) => (best[i] ? scores[i] : -scores[i]))),
    scale: exactSum(Array.from(scores, Math.abs)),
    exchanged: changed.filter((i) => kept[i]).length,
  };
}

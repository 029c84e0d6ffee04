/**
 * The bounds that a mask may be asked to meet, as a tree over the weights of a sample.
 *
 * A tree is a list of levels {length, minimum, maximum}, the innermost first: every `length`
 * consecutive weights are a node, which keeps `minimum` to `maximum` of them. Each length divides
 * the next; the last level is the root, which keeps k.
 */

const bounded = (length, minimum, maximum) => ({ length, minimum, maximum });
const halves = (count, keep) => bounded(count / 2, Math.floor(keep / 2), count / 2);

/** By name: the words of the control, a divisor of the number of weights, the inner levels. */
const BOUNDS = {
  none: { says: "none: k of all", divisor: 1, inside: () => [] },
  "2:4": { says: "exactly 2 of each 4", divisor: 4, inside: () => [bounded(4, 2, 2)] },
  "4:8": { says: "exactly 4 of each 8", divisor: 8, inside: () => [bounded(8, 4, 4)] },
  "at-most-2:4": { says: "at most 2 of each 4", divisor: 4, inside: () => [bounded(4, 0, 2)] },
  halves: {
    says: "at least ⌊k/2⌋ in each half",
    divisor: 2,
    inside: (count, keep) => [halves(count, keep)],
  },
  "halves-2:4": {
    says: "both: halves, at most 2 of each 4",
    divisor: 8,
    inside: (count, keep) => [bounded(4, 0, 2), halves(count, keep)],
  },
};

/** The tree of bounds over so many weights, of which k are kept. */
function treeOf(bounds, count, keep) {
  return [...BOUNDS[bounds].inside(count, keep), bounded(count, keep, keep)];
}

/** The number of weights that bounds ask for by themselves; null if they leave it open. */
function ownCount(bounds, count) {
  const [{ length, minimum, maximum }] = BOUNDS[bounds].inside(count, 0).concat(bounded(1, 0, 1));
  return minimum === maximum ? (count / length) * minimum : null;
}

/** Why a sample of this size cannot have the bounds; empty if it can. */
function misfit(bounds, count) {
  const { divisor, inside } = BOUNDS[bounds];
  if (count % divisor) return `${count} is no multiple of ${divisor}`;
  const lengths = inside(count, 0).map(({ length }) => length);
  return new Set(lengths).size < lengths.length ? `a half of ${count} is a group` : "";
}

/** The nodes of a level by their noun. */
function nounOf({ length }, count) {
  return length === count ? "root" : length === count / 2 ? "half" : `group of ${length}`;
}

/** The sample in the page, and the positions of its sliders. */

/**
 * The layers with their numbers as doubles; float32 from base64, little-endian.
 *
 * `index` is the flat index of a weight of the sample in the whole tensor.
 */
function read(text) {
  const sample = JSON.parse(text);
  const layers = sample.layers.map((layer) => ({
    ...layer,
    index: places(layer.size, layer.count, sample.golden),
    weights: decoded(layer.weights),
    gradient: decoded(layer.gradient),
    curvature: layer.curvature === null ? null : decoded(layer.curvature),
  }));
  return { ...sample, layers };
}

/** The flat indices that were sampled of a tensor, as pins.runs.weight_sample.flat_indices. */
function places(size, count, golden) {
  return Array.from({ length: count }, (_, i) => (i * golden) % size).sort((a, b) => a - b);
}

/** Float32 numbers from base64. */
function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Sparsity on its slider: thousandths, and the run's own ratio; {p, q} is p/q. */
function sparsities({ numerator, denominator }) {
  const own = { p: BigInt(numerator), q: BigInt(denominator) };
  const grid = Array.from({ length: 1001 }, (_, i) => ({ p: BigInt(i), q: 1000n }));
  const at = grid.findIndex(({ p, q }) => p * own.q >= own.p * q);
  const found = grid[at].p * own.q === own.p * grid[at].q;
  return { positions: found ? grid : grid.toSpliced(at, 0, own), start: at };
}

/** k = ⌊(1 − p/q)·n + ½⌋, as pins.schedules.keep_count. */
function keepCount({ p, q }, count) {
  return Number((2n * (q - p) * BigInt(count) + q) / (2n * q));
}

/** μ on its slider: 0, powers of two, ∞. */
function multipliers(layer) {
  if (layer.curvature === null) return [Infinity];
  const [low, high] = layer.multipliers;
  const powers = Array.from({ length: high - low + 1 }, (_, i) => 2 ** (low + i));
  return [0, ...powers, Infinity];
}

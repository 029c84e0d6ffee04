/**
 * The proof of a decision as files: scores, masks, certificate (verification/CERTIFICATE.md).
 *
 * `proved` is what proof() of decision.js returns.
 */

const encoder = new TextEncoder();

/** A safetensors file of one tensor. */
function safetensors(name, dtype, shape, data, format) {
  const header = {
    __metadata__: { format, version: "1" },
    [name]: { dtype, shape, data_offsets: [0, data.length] },
  };
  const text = encoder.encode(JSON.stringify(header));
  const start = 8 + 8 * Math.ceil(text.length / 8); // blanks after the text fill eight bytes
  const file = new Uint8Array(start + data.length).fill(32);
  new DataView(file.buffer).setBigUint64(0, BigInt(start - 8), true);
  file.set(text, 8);
  file.set(data, start);
  return file;
}

/** The scores, in float64, which holds those of every precision. */
function scoresFile(name, scores) {
  const data = new DataView(new ArrayBuffer(8 * scores.length));
  scores.forEach((score, i) => data.setFloat64(8 * i, score, true));
  return safetensors(name, "F64", [scores.length], new Uint8Array(data.buffer), "pins-scores");
}

/** The mask, a byte a weight. */
function maskFile(name, kept) {
  const data = Uint8Array.from(kept, Number);
  return safetensors(name, "BOOL", [kept.length], data, "pins-mask");
}

/** SHA-256 in hexadecimal digits; null if the browser computes none. */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The mask meets the bounds and is not optimal: the certificate claims its gap. */
function fallsShort({ feasible, optimal }) {
  return feasible && !optimal;
}

/** The mask is the optimum by index. */
function isByIndex({ kept, best }) {
  return kept.every((keeps, i) => keeps === best[i]);
}

/**
 * The certificate: of optimality, or of the gap of a mask that falls short.
 *
 * A mask that does not keep k gets a certificate of optimality, which a checker refutes.
 *
 * about: {name, criterion, madeBy}; files: {scores, mask, best}, each {file, sha256}; best or null.
 */
function certificate(proved, about, files) {
  const { r, tree, keep, count, gap } = proved;
  const short = fallsShort(proved);
  const runs = tree.slice(0, -1).reverse();
  const inside = { transposed: false, runs, squares: null };
  const claim = {
    total: r.length,
    keep,
    block: [1, 1],
    scope: [{ name: about.name, shape: [r.length], dtype: "F64" }],
    tree: [{ tensor: about.name, minimum: 0, maximum: r.length, ...inside }],
    frozen: { zeros: null, fixed: null },
    criterion: about.criterion,
    formula: null,
    tie_rule: !short && isByIndex(proved) ? "lower-index" : "none",
    unique: short ? null : proved.unique,
    radius: null,
    gap: fraction(short ? gap : total([])),
  };
  const none = { potentials: null, cost: null, multiplier: null, inputs: null };
  const evidence = { counts: [count], ...files, ...none };
  const provenance = { made_by: about.madeBy };
  const format = { format: "pins-certificate", version: 4, kind: "selection" };
  return { ...format, claim, evidence, provenance };
}

/** The line that a checker prints for such a certificate. */
function verdict(proved, { criterion }) {
  const { r, tree, keep, count, gap } = proved;
  if (!proved.feasible) return `refuted: kept ${count} of ${r.length}, the claim says ${keep}`;
  const ties = isByIndex(proved) ? "ties by lower index" : "not unique";
  const conclusion = fallsShort(proved)
    ? `falls short of the optimum by exactly ${claimed(gap)}, among masks ${rivals(tree)}`
    : `no mask ${rivals(tree)} has a larger score sum (${proved.unique ? "unique" : ties})`;
  return (
    `proved: the mask keeps exactly ${keep} of ${r.length} weights in 1 tensor and ` +
    `${conclusion}; not checked: that the scores are '${criterion}'`
  );
}

/** The competing masks, in the words of the checker. */
function rivals(tree) {
  const inside = tree.slice(0, -1).reverse();
  const bounds = inside.map(({ length, minimum, maximum }) => {
    if (minimum === maximum) return `exactly ${minimum} of each run of ${length}`;
    const ends = [];
    if (minimum > 0) ends.push(`at least ${minimum}`);
    if (maximum < length) ends.push(`at most ${maximum}`);
    return ends.length && `${ends.join(" and ")} of each run of ${length}`;
  });
  const said = bounds.filter(Boolean).join(", ");
  return `with as many${said && ` that keeps ${said}`}`;
}

/** A positive gap in the words of the checker: exactly if it is short, and in four digits. */
function claimed(number) {
  const exact = fraction(number);
  const near = `(≈ ${fourDigits(exact)})`;
  const bits = Object.values(exact).map((digits) => BigInt(digits).toString(2).length);
  const short = Math.max(...bits) < 200 && written(exact).length <= 40;
  return short ? `${written(exact)} ${near}` : `the claimed fraction ${near}`;
}

/** p/q > 0 in four significant digits, half to even, as Python's Decimal in the format .3e. */
function fourDigits({ numerator, denominator }) {
  let exponent = numerator.length - denominator.length;
  const scaled = (power) => [
    BigInt(numerator) * 10n ** BigInt(Math.max(power, 0)),
    BigInt(denominator) * 10n ** BigInt(Math.max(-power, 0)),
  ];
  const [top, bottom] = scaled(-exponent);
  if (top < bottom) exponent -= 1;
  const [p, q] = scaled(3 - exponent);
  const rest = 2n * (p % q) - q;
  const digits = p / q + (rest > 0n || (rest === 0n && (p / q) % 2n === 1n) ? 1n : 0n);
  const [carry, text] = [digits === 10000n ? 1 : 0, String(digits)];
  const power = exponent + carry;
  return `${text[0]}.${text.slice(1, 4)}e${power < 0 ? "-" : "+"}${Math.abs(power)}`;
}

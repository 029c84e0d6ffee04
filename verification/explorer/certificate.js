/**
 * The proof of a decision as three files: scores, mask, certificate (verification/CERTIFICATE.md).
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

/**
 * The certificate of optimality, or of regret for a mask that keeps k and is not optimal.
 *
 * A mask that does not keep k gets a certificate of optimality, which a checker refutes.
 *
 * about: {name, criterion, byIndex, madeBy, files: {scores, mask}, digests: {scores, mask}}.
 */
function certificate(proved, about) {
  const { r, keep, kept, count, least, greatest } = proved;
  const short = proved.feasible && !proved.optimal;
  const claim = {
    statement: short ? "regret" : "optimal",
    total: r.length,
    keep,
    scope: [{ name: about.name, shape: [r.length], dtype: "F64" }],
    criterion: about.criterion,
  };
  const evidence = { lambda: toHex(proved.multiplier), counts: [count] };
  if (short) {
    claim.regret = fraction(regret(r, kept).exact);
    const weight = (i) => ({ tensor: about.name, index: i, score: toHex(r[i]) });
    evidence.violation = { kept: weight(least), pruned: weight(greatest) };
  } else {
    claim.tie_rule = about.byIndex ? "lower-index" : "none";
    claim.unique = proved.unique;
    evidence.kept_min = least < 0 ? null : toHex(r[least]);
    evidence.pruned_max = greatest < 0 ? null : toHex(r[greatest]);
  }
  for (const role of ["scores", "mask"]) {
    evidence[role] = { file: about.files[role], sha256: about.digests[role] };
  }
  const provenance = { made_by: about.madeBy };
  return { format: "pins-certificate", version: 1, claim, evidence, provenance };
}

/** The line that a checker prints for such a certificate. */
function verdict(proved, about) {
  const { r, keep, count } = proved;
  if (!proved.feasible) return `refuted: kept ${count} of ${r.length}, the claim says ${keep}`;
  const lam = `λ = ${repr(proved.multiplier)}`;
  const ties = proved.unique ? "unique" : about.byIndex ? "ties by lower index" : "not unique";
  return (
    `proved: the mask keeps exactly ${keep} of ${r.length} weights in 1 tensor and no mask with ` +
    `as many has a larger score sum (${lam}, ${ties}); not checked: that the scores are ` +
    `'${about.criterion}'`
  );
}

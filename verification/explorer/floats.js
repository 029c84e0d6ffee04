/**
 * Floats as the rational numbers they are, and their rounding to fewer digits.
 *
 * Every finite double is n·2^e with integers n and e. So are sums, differences and integer
 * multiples of doubles: {n: BigInt, e: Number}. Only `near` rounds.
 */

const UNIT = -1074; // 2^UNIT is the smallest positive double: no double has a bit below it
const scratch = new DataView(new ArrayBuffer(8));

/** A finite double as n·2^e. */
function dyadic(value) {
  scratch.setFloat64(0, value);
  const bits = scratch.getBigUint64(0);
  const exponent = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  const n = exponent ? fraction | 0x10000000000000n : fraction;
  return { n: value < 0 ? -n : n, e: Math.max(exponent, 1) - 1 + UNIT };
}

/** Σ of dyadic numbers. */
function total(terms) {
  const e = terms.reduce((least, term) => Math.min(least, term.e), 0);
  const n = terms.reduce((sum, term) => sum + (term.n << BigInt(term.e - e)), 0n);
  return { n, e };
}

/** Σ of doubles, exactly. */
function exactSum(values) {
  return total(Array.from(values, dyadic));
}

/** An integer multiple. */
function times(count, { n, e }) {
  return { n: BigInt(count) * n, e };
}

/** a − b. */
function difference(a, b) {
  return total([a, times(-1, b)]);
}

/** In lowest terms, as strings of decimal digits. */
function fraction({ n, e }) {
  let numerator = e < 0 ? n : n << BigInt(e);
  let power = Math.max(-e, 0);
  for (; power > 0 && (numerator & 1n) === 0n; power -= 1) numerator >>= 1n;
  const denominator = 1n << BigInt(power);
  return { numerator: String(numerator), denominator: String(denominator) };
}

/** a / b, b ≠ 0, to 53 bits or nearly: to show, not to compute with. */
function quotient(a, b) {
  const [x, y] = [near(a), near(b)];
  return (x.value / y.value) * 2 ** (x.e - y.e);
}

/** The double next to a dyadic number, or nearly: to show, not to compute with. */
function approximate(number) {
  const { value, e } = near(number);
  return value * 2 ** e;
}

/** Its 64 leading bits as value·2^e, so that n need not fit into a double. */
function near({ n, e }) {
  const size = n < 0n ? -n : n;
  const excess = Math.max(size.toString(16).length * 4 - 64, 0);
  return { value: Number(n >> BigInt(excess)), e: e + excess };
}

/** The nearest bfloat16 of the nearest float32, ties to even. */
function toBfloat16(value) {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  scratch.setUint32(0, (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
  return scratch.getFloat32(0);
}

/** Precision → how scores are rounded before anything else. */
const ROUNDINGS = {
  float64: (value) => value,
  float32: Math.fround,
  bfloat16: toBfloat16,
};

/** A finite double in the fewest digits that name it, as Python writes it. */
function repr(value) {
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [digits, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${digits}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  const plain = String(value);
  return plain.includes(".") ? plain : `${plain}.0`;
}

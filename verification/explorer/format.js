/** Numbers for people: a minus sign, a power of ten, six digits by default. */

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** An exponent, raised. */
function raised(exponent) {
  return Array.from(String(exponent), (digit) => RAISED[digit] ?? "⁻").join("");
}

/** A double in `digits` digits. */
function shown(value, digits = 6) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const exponent = Number(power);
  if (exponent >= -3 && exponent < digits) {
    return value.toFixed(digits - 1 - exponent).replace("-", "−");
  }
  return `${mantissa.replace("-", "−")} × 10${raised(exponent)}`;
}

/** A ratio in per cent; small ones keep their first digits. */
function percent(ratio) {
  if (ratio === 0) return "0 %";
  const value = 100 * ratio;
  return `${Math.abs(value) < 0.1 ? shown(value, 2) : value.toFixed(1)} %`;
}

/** A fraction in one line. */
function written({ numerator, denominator }) {
  return denominator === "1" ? numerator : `${numerator}/${denominator}`;
}

/** A number with its noun: 1 weight, 2 weights. */
function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

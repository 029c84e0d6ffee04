/** The charts of a decision as SVG, in the pixels of their host, each with a text alternative. */

const SPACE = { left: 58, right: 14, top: 46, bottom: 42 };
const NEIGHBOURS = 8; // ranks on each side of the threshold in the chart of the dual
const GAP = 15; // pixels between labels of an axis
const TITLE = 14; // pixels from the top to the title of the vertical axis
const ROOM = 90; // pixels that a label beside the boundary may need

/** An SVG element. */
function drawn(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An HTML element with a text. */
function element(tag, content = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

/** Put an empty chart into its host; `label` is the text alternative. */
function chart(host, height, label) {
  const width = Math.max(host.clientWidth, 200);
  const box = { width, height, viewBox: `0 0 ${width} ${height}` };
  const svg = drawn("svg", { ...box, role: "img", "aria-label": label });
  host.replaceChildren(svg);
  const inner = { left: SPACE.left, right: width - SPACE.right, top: SPACE.top };
  return { svg, ...inner, bottom: height - SPACE.bottom };
}

function text(x, y, content, attributes = {}) {
  return drawn("text", { x, y, ...attributes }, content);
}

function line(x1, y1, x2, y2, name) {
  return drawn("line", { x1, y1, x2, y2, class: name });
}

/** The vertical axis of a chart with labels at the ticks {at, text}, placed by y, and a title. */
function verticalAxis({ svg, left, bottom }, from, ticks, y, title) {
  for (const tick of ticks) {
    svg.append(line(left - 4, y(tick.at), left, y(tick.at), "axis"));
    svg.append(text(left - 8, y(tick.at) + 4, tick.text, { "text-anchor": "end" }));
  }
  svg.append(line(left, from, left, bottom, "axis"));
  svg.append(text(left - 48, TITLE, title));
}

/** The labels below a chart, likewise. */
function horizontalAxis({ svg, right, bottom }, ticks, x, title) {
  for (const tick of ticks) {
    svg.append(line(x(tick.at), bottom, x(tick.at), bottom + 4, "axis"));
    svg.append(text(x(tick.at), bottom + 18, tick.text, { "text-anchor": "middle" }));
  }
  svg.append(text(right, bottom + 36, title, { "text-anchor": "end" }));
}

/** The linear map of [low, high] to [start, end]. */
function linear(low, high, start, end) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

/** Round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten. */
function roundNumbers(low, high, most) {
  const least = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= least);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return { step, values: Array.from({ length: count }, (_, i) => (first + i) * step) };
}

/** An axis of round numbers in a unit that is a power of ten: the unit and the labels. */
function labelled(low, high, most) {
  const { step, values } = roundNumbers(low, high, most);
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const exponent = Math.floor(Math.log10(size));
  const digits = Math.max(0, exponent - Math.floor(Math.log10(step) + 1e-9));
  const shownAs = (value) => (value / 10 ** exponent).toFixed(digits).replace("-", "−");
  return { unit: `10${raised(exponent)}`, ticks: values.map((at) => ({ at, text: shownAs(at) })) };
}

/** 0 and ± powers of ten whose labels do not overlap. */
function powersOfTen(low, high, y) {
  const sizes = [low, high].filter(Boolean).map((end) => Math.log10(Math.abs(end)));
  const ticks = [{ at: 0, text: "0" }];
  if (!sizes.length) return ticks;
  for (const sign of [1, -1]) {
    let last = y(0);
    for (let power = Math.floor(Math.max(...sizes)) - 12; power <= Math.max(...sizes); power += 1) {
      const at = sign * 10 ** power;
      if (at < low || at > high || Math.abs(y(at) - last) < 2 * GAP) continue;
      ticks.push({ at, text: `${sign < 0 ? "−" : ""}10${raised(power)}` });
      last = y(at);
    }
  }
  return ticks;
}

/** Draw the axis asinh(r/w), w the median of |r|, and return its map to y. */
function scoreAxis(frame, { r, order }, unit) {
  const { svg, left, right, top, bottom } = frame;
  const sizes = Array.from(r, Math.abs).filter(Boolean).sort((a, b) => a - b);
  const width = sizes[Math.floor(sizes.length / 2)] ?? 1;
  const [low, high] = [Math.min(0, r[order.at(-1)]), Math.max(0, r[order[0]])];
  const bend = linear(Math.asinh(low / width), Math.asinh(high / width), bottom, top);
  const y = (score) => bend(Math.asinh(score / width));
  verticalAxis(frame, top, powersOfTen(low, high, y), y, `score, ${unit}`);
  svg.append(line(left, y(0), right, y(0), "axis"));
  return y;
}

/** The sorted scores with threshold, kept part and ties. */
function drawRanking(host, solution, unit) {
  const { r, order, keep, count, multiplier, tied } = solution;
  const label = rankingInWords(solution);
  const frame = chart(host, 300, label);
  const { svg, left, right, top, bottom } = frame;
  const y = scoreAxis(frame, solution, unit);
  const x = linear(0, order.length, left, right);

  const steps = (from, to) => {
    const points = order.slice(from, to).map((i, rank) => `V${y(r[i])}H${x(from + rank + 1)}`);
    return `M${x(from)} ${y(0)}${points.join("")}V${y(0)}Z`;
  };
  if (count > 0) svg.append(drawn("path", { d: steps(0, count), class: "kept" }));
  if (count < order.length) svg.append(drawn("path", { d: steps(count), class: "pruned" }));

  horizontalAxis(frame, ranksTo(order.length, right - left), (rank) => x(rank - 0.5), "rank");
  svg.append(...lambdaLine(left, right, y(multiplier)));
  if (count !== keep) svg.append(line(x(keep), top, x(keep), bottom, "asked"));
  svg.append(line(x(count), top - 18, x(count), bottom, "boundary"));
  svg.append(...boundaryLabels(x(count), left, right, solution));
  if (tied.length) svg.append(tieMark(solution, x, y));
  return label;
}

/** Labels of ranks from 1. */
function ranksTo(count, width) {
  const ranks = roundNumbers(0, count, Math.min(width / 70, count)).values;
  return ranks.map((rank) => ({ at: Math.max(rank, 1), text: String(Math.max(rank, 1)) }));
}

function lambdaLine(left, right, y) {
  const look = { "text-anchor": "end", class: "strong halo" };
  return [line(left, y, right, y, "threshold"), text(right, y - 5, "λ", look)];
}

/** The numbers kept and pruned, on both sides of the boundary or on the one with more room. */
function boundaryLabels(at, left, right, { keep, count, order }) {
  const kept = count === keep ? `${count} kept` : `${count} kept, asked ${keep}`;
  const pruned = `${order.length - count} pruned`;
  const y = SPACE.top - 10;
  const strong = (x, content, anchor) =>
    text(x, y, content, { class: "strong", "text-anchor": anchor });
  if (at - left < ROOM) return [strong(at + 6, `${kept} | ${pruned}`, "start")];
  if (right - at < ROOM) return [strong(at - 6, `${kept} | ${pruned}`, "end")];
  return [strong(at - 6, `← ${kept}`, "end"), strong(at + 6, `${pruned} →`, "start")];
}

/** A bracket over the weights that tie at the threshold, which are neighbours. */
function tieMark({ order, tied, multiplier }, x, y) {
  const first = order.indexOf(tied[0]);
  const [from, to] = [x(first), x(first + tied.length)];
  const at = y(multiplier) - 8;
  const bracket = drawn("path", { d: `M${from} ${at + 5}V${at}H${to}V${at + 5}`, class: "tie" });
  const look = { "text-anchor": "middle", class: "halo" };
  const label = text((from + to) / 2, at - 5, `${tied.length} tied`, look);
  return drawn("g", {}, bracket, label);
}

function rankingInWords({ r, order, count, multiplier, tied, distinct }) {
  const [most, least] = [shown(r[order[0]], 3), shown(r[order.at(-1)], 3)];
  return (
    `Scores of ${counted(order.length, "weight")} in descending order, from ${most} to ${least}, ` +
    `${distinct} different; the first ${count} are kept; threshold λ = ${shown(multiplier, 3)}` +
    (tied.length ? `, at which ${tied.length} tie.` : ".")
  );
}

/**
 * The dual function of the root's λ near its minimum, as its excess over the least value.
 *
 * Between two neighbouring scores that the root may exchange its slope is the number that it keeps
 * of them less #{r > λ}. So it rises by 1, 2, … from b on to the right, and by the same to the left
 * of a. Without any it is flat, and there is no chart.
 */
function drawDual(host, solution) {
  const { interval, gap, feasible, free } = solution;
  if (!free.scores.length) {
    host.replaceChildren(element("p", "The inner bounds decide every weight: λ is free."));
    return;
  }
  const above = free.scores.slice(Math.max(free.keep - 1 - NEIGHBOURS, 0), free.keep).reverse();
  const below = free.scores.slice(free.keep, free.keep + 1 + NEIGHBOURS);
  const rising = excess(above);
  const falling = excess(below.map((score) => -score)).map(([at, height]) => [-at, height]);
  const points = [...falling.reverse(), ...rising];
  const span = points.at(-1)[0] - points[0][0] || Math.abs(points[0][0]) || 1;
  if (interval.low === -Infinity) points.unshift([points[0][0] - span / 4, 0]);
  if (interval.high === Infinity) points.push([points.at(-1)[0] + span / 4, 0]);

  const highest = Math.max(...points.map(([, height]) => height));
  const label = dualInWords(solution);
  const frame = chart(host, 260, label);
  const { svg, left, right, top, bottom } = frame;
  const [low, high] = [points[0][0], points.at(-1)[0]];
  const x = linear(low, high, left, right);
  const y = linear(0, highest || 1, bottom - 22, top - 14);

  const horizontal = labelled(low, high, (right - left) / 70);
  horizontalAxis(frame, horizontal.ticks, x, `λ, in ${horizontal.unit}`);
  const vertical = labelled(0, highest || 1, 4);
  const title = `dual value − its least, in ${vertical.unit}`;
  verticalAxis(frame, top - 14, vertical.ticks, y, title);
  svg.append(line(left, bottom, right, bottom, "axis"));

  let primal = "primal value r·m";
  if (feasible) {
    svg.append(line(left, y(0), right, y(0), "primal"));
  } else {
    const side = gap.n < 0n ? "above" : "below";
    primal = `primal value: ${shown(Math.abs(approximate(gap)), 3)} ${side}`;
  }
  svg.append(text(left + 6, y(0) + 16, primal));
  const path = points.map(([at, height]) => `${x(at)} ${y(height)}`).join("L");
  svg.append(drawn("path", { d: `M${path}`, class: "dual" }));
  const ends = [Math.max(interval.low, low), Math.min(interval.high, high)].map(x);
  svg.append(line(ends[0], y(0), ends[1], y(0), "flat"));
  svg.append(...ends.map((cx) => drawn("circle", { cx, cy: y(0), r: 4.5, class: "flat" })));
  return label;
}

/** The excess at each of the ascending scores, the first being the end of the flat interval. */
function excess(scores) {
  let height = 0;
  return scores.map((score, slope) => {
    if (slope > 0) height += slope * (score - scores[slope - 1]);
    return [score, height];
  });
}

function dualInWords({ interval, primal, dual, feasible }) {
  const [low, high] = [shown(interval.low), shown(interval.high)];
  return (
    `Dual function of λ, least on the interval from ${low} to ${high}, where it is ` +
    `${shown(approximate(dual))}; primal value of the mask ${shown(approximate(primal))}` +
    (feasible ? ", which is equal." : ", of another number of weights.")
  );
}

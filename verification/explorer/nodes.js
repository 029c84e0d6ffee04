/** The thresholds of the nodes of a tree: a chart, a table, and the binding bounds in words. */

const FEW = 4; // nodes that are labelled one by one
const NAMED = 6; // binding nodes that a sentence names

/** The nodes of a level whose threshold differs from the one around: above it, and below it. */
function binding(level, outer) {
  const which = (holds) =>
    Array.from(level.thresholds.keys()).filter((node) =>
      holds(level.thresholds[node], thresholdAround(level, node, outer)),
    );
  return { above: which((t, outside) => t > outside), below: which((t, outside) => t < outside) };
}

/**
 * The scores node by node, each node's own threshold as a step of a line: kept scores lie above it,
 * pruned ones below.
 *
 * The parts of a node come by their threshold, the weights of the innermost by their score.
 */
function drawNodes(host, solution, unit) {
  const { r, order, kept, nodes, multiplier } = solution;
  const label = bindingInWords(solution);
  const frame = chart(host, 340, label);
  const { svg, left, right, top, bottom } = frame;
  const y = scoreAxis(frame, solution, unit);
  const x = linear(0, r.length, left, right);
  const inner = nodes[0];
  const downwards = nodes.slice(0, -1).toReversed();
  const before = (i, j) => {
    for (const { length, thresholds } of downwards) {
      const [A, B] = [Math.floor(i / length), Math.floor(j / length)];
      if (A !== B) return thresholds[B] - thresholds[A] || A - B;
    }
    return 0;
  };
  const sorted = order.toSorted(before); // stable

  const size = Math.max(2.6, Math.min(5, x(1) - x(0)));
  const dots = (keeps, w) => {
    const dot = (i, slot) => `M${x(slot + 0.5) - w / 2} ${y(r[i]) - w / 2}h${w}v${w}h${-w}Z`;
    return sorted.map((i, slot) => (kept[i] === keeps ? dot(i, slot) : "")).join("");
  };
  svg.append(drawn("path", { d: dots(false, 0.8 * size), class: "pruned" }));
  svg.append(drawn("path", { d: dots(true, size), class: "kept" }));
  svg.append(...lambdaLine(left, right, y(multiplier)));
  svg.append(text(right, TITLE, "solid: t, dashed: λ", { "text-anchor": "end" }));
  for (const level of downwards) {
    const { length, thresholds } = level;
    const firsts = sorted.filter((_, slot) => slot % length === 0);
    const inOrder = firsts.map((i) => Math.floor(i / length));
    const width = x(length) - left;
    const steps = inOrder.map((A, at) => `${left + at * width} ${y(thresholds[A])}h${width}`);
    const [join, look] = level === inner ? ["L", "steps"] : ["M", "outer"];
    svg.append(drawn("path", { d: `M${steps.join(join)}`, class: look }));
    if (steps.length <= FEW) nameNodes(frame, nounOf(level, r.length), inOrder, width);
  }
  const count = r.length / inner.length;
  const noun = nounOf(inner, r.length);
  const ticks = count > FEW ? ranksTo(count, right - left) : [];
  const title = count > FEW ? `${noun}, by its threshold` : "weights of each, by score";
  horizontalAxis(frame, ticks, (rank) => x((rank - 0.5) * inner.length), title);
  return label;
}

/** The names of neighbouring nodes of this width above the chart, and the lines between them. */
function nameNodes({ svg, left, top, bottom }, noun, which, width) {
  which.forEach((node, at) => {
    const look = { "text-anchor": "middle", class: "strong" };
    const from = left + at * width;
    svg.append(text(from + width / 2, top - 14, `${noun} ${node + 1}`, look));
    if (at) svg.append(line(from, top - 24, from, bottom, "boundary"));
  });
}

/** Which bounds bind, and that the mask is proved. */
function bindingInWords(solution) {
  const { nodes, r, interval } = solution;
  const said = nodes.slice(0, -1).toReversed().map((level) => {
    const noun = nounOf(level, r.length);
    const all = level.ones.length;
    const every = noun === "half" ? `${all} halves` : `${all} ${noun.replace("group", "groups")}`;
    if (level.minimum === level.maximum) {
      return `All ${every} keep exactly ${level.minimum}, each by a threshold of its own.`;
    }
    const { above, below } = binding(level, nodes[nodes.indexOf(level) + 1]);
    if (!above.length && !below.length) return `No bound on the ${every} binds.`;
    const parts = [];
    const tell = (which, where, has) => {
      if (which.length) parts.push(`${which.length} ${where} (${has}): number ${listed(which)}`);
    };
    tell(above, "at the maximum", `${level.maximum} kept, threshold above the one around`);
    tell(below, "at the minimum", `${level.minimum} kept, threshold below the one around`);
    return `Bounds bind in ${above.length + below.length} of ${every}: ${parts.join("; ")}.`;
  });
  const count = nodes.reduce((sum, level) => sum + level.ones.length, 0);
  const open = interval.low === -Infinity && interval.high === Infinity;
  const root = open ? " The root may exchange nothing." : "";
  return `${said.join(" ")}${root} In all ${count} nodes a ≤ b: that proves the mask optimal.`;
}

function listed(which) {
  const first = which.slice(0, NAMED).map((node) => node + 1).join(", ");
  return which.length > NAMED ? `${first} and ${which.length - NAMED} more` : first;
}

/** The rows of the table of nodes, the root first. */
function nodeRows({ nodes, r }) {
  return nodes.toReversed().flatMap((level) =>
    Array.from(level.ones, (count, node) => {
      const noun = nounOf(level, r.length);
      const ends = [level.gain[node], level.lose[node]].map((i) => (i < 0 ? "–" : shown(r[i], 4)));
      const bounds = `${level.minimum} to ${level.maximum}`;
      const name = noun === "root" ? noun : `${noun}: ${node + 1}`;
      return [name, bounds, count, ...ends, shown(level.thresholds[node], 4)];
    }),
  );
}

/** The mask as a grid of cells in flat order, with a cursor for pointer and keyboard. */

const CELL = { least: 5, most: 18 };
const HIGHEST = 320; // pixels of the grid

/** The shape of a cell with corner x, y and width w: shapes differ, not colours alone. */
const SHAPES = {
  kept: (x, y, w) => `M${x + 1} ${y + 1}h${w - 2}v${w - 2}h${2 - w}Z`,
  pruned: (x, y, w) => `M${x + w * 0.38} ${y + w * 0.38}h${w * 0.24}v${w * 0.24}h${w * -0.24}Z`,
  added: (x, y, w) => `M${x + 1} ${y + w - 1}h${w - 2}L${x + w / 2} ${y + 1}Z`,
  missed: (x, y, w) => `M${x + 1.5} ${y + 1.5}h${w - 3}L${x + w / 2} ${y + w - 1.5}Z`,
  tied: (x, y, w) => `M${x + 0.5} ${y + 0.5}h${w - 1}v${w - 1}h${1 - w}Z`,
};

/** The meaning of each shape. */
const MEANINGS = {
  kept: "kept, as in the optimum of PINS",
  pruned: "pruned, as in the optimum of PINS",
  added: "kept, where the optimum of PINS prunes",
  missed: "pruned, where the optimum of PINS keeps",
  tied: "tied at the threshold",
};

/** The shape of weight i, apart from ties. */
function shapeOf({ kept, regret: { best } }, i) {
  if (kept[i]) return best[i] ? "kept" : "added";
  return best[i] ? "missed" : "pruned";
}

/** A weight in words. */
function weightInWords(solution, i) {
  const { layer, r, s, order, tied } = solution;
  const numbers = [`θ = ${shown(layer.weights[i], 4)}`, `g = ${shown(layer.gradient[i], 4)}`];
  if (layer.curvature) numbers.push(`h = ${shown(layer.curvature[i], 4)}`);
  numbers.push(`s = ${shown(s[i])}`, `r = ${shown(r[i])}`);
  const tie = tied.includes(i) ? `, ${MEANINGS.tied}` : "";
  return (
    `Weight ${i + 1} of ${r.length}, index ${layer.index[i]} in the tensor: ` +
    `${numbers.join(", ")}; rank ${order.indexOf(i) + 1}; ${MEANINGS[shapeOf(solution, i)]}${tie}` +
    `${nodesAround(solution, i).join("")}.`
  );
}

/** The nodes inside the root that hold a weight, the innermost first, in words. */
function nodesAround({ nodes, r }, i) {
  return nodes.slice(0, -1).map((level) => {
    const node = Math.floor(i / level.length);
    const name = `${nounOf(level, r.length)}, number ${node + 1}`;
    const threshold = shown(level.thresholds[node], 4);
    return `; ${name}: ${level.ones[node]} kept, threshold t = ${threshold}`;
  });
}

/**
 * The grid in its host. Arrow keys, Home, End and the pointer move the cursor; the element `said`
 * describes the weight under it.
 */
class MaskGrid {
  constructor(host, legend, said) {
    Object.assign(this, { host, legend, said, cursor: 0 });
    host.addEventListener("keydown", (event) => this.#key(event));
    host.addEventListener("pointermove", (event) => this.#point(event));
  }

  /** Draw the mask of a decision. */
  show(solution) {
    const { r, kept, tied } = solution;
    const width = Math.max(this.host.clientWidth, 200);
    const fitting = Math.sqrt((width * HIGHEST) / r.length);
    this.cell = Math.max(CELL.least, Math.min(CELL.most, Math.floor(fitting)));
    this.columns = Math.floor(width / this.cell);
    this.solution = solution;
    this.cursor = Math.min(this.cursor, r.length - 1);

    const height = Math.ceil(r.length / this.columns) * this.cell;
    const svg = drawn("svg", { width, height, "aria-hidden": "true" });
    const groups = { kept: [], pruned: [], added: [], missed: [], tied };
    kept.forEach((_, i) => groups[shapeOf(solution, i)].push(i));
    for (const [name, members] of Object.entries(groups)) {
      const d = members.map((i) => SHAPES[name](...this.#corner(i), this.cell)).join("");
      svg.append(drawn("path", { d, class: name }));
    }
    this.ring = drawn("rect", { width: this.cell, height: this.cell, class: "cursor" });
    svg.append(this.ring);
    this.host.replaceChildren(svg);
    this.host.setAttribute("aria-valuemax", r.length);
    this.#legend(groups);
    this.#move(this.cursor);
  }

  #corner(i) {
    return [(i % this.columns) * this.cell, Math.floor(i / this.columns) * this.cell];
  }

  #legend(groups) {
    const items = Object.entries(groups).filter(([, members]) => members.length);
    this.legend.replaceChildren(
      ...items.map(([name, members]) => {
        const path = drawn("path", { d: SHAPES[name](0, 0, 14), class: name });
        const item = element("li");
        const svg = drawn("svg", { width: 14, height: 14, "aria-hidden": "true" }, path);
        item.append(svg, ` ${members.length} ${MEANINGS[name]}`);
        return item;
      }),
    );
  }

  #move(i) {
    if (i < 0 || i >= this.solution.r.length) return;
    this.cursor = i;
    const [x, y] = this.#corner(i);
    this.ring.setAttribute("x", x);
    this.ring.setAttribute("y", y);
    const words = weightInWords(this.solution, i);
    this.said.textContent = words;
    this.host.setAttribute("aria-valuenow", i + 1);
    this.host.setAttribute("aria-valuetext", words);
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
    const ends = { Home: 0, End: this.solution.r.length - 1 };
    const target = ends[event.key] ?? this.cursor + steps[event.key];
    if (Number.isNaN(target)) return;
    event.preventDefault();
    this.#move(target);
  }

  #point(event) {
    const box = this.host.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.cell);
    const row = Math.floor((event.clientY - box.top) / this.cell);
    if (column >= 0 && column < this.columns) this.#move(row * this.columns + column);
  }
}

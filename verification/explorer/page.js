/** Controls → decision → page. */

const at = (id) => document.getElementById(id);
const sample = read(at("sample").textContent);
const names = "layer criterion multiplier sparsity bounds rate ties precision".split(" ");
const controls = Object.fromEntries(names.map((id) => [id, at(id)]));
const ratios = sparsities(sample.sparsity);
const grid = new MaskGrid(at("mask"), at("legend"), at("weight"));
const parts = Array.from(document.querySelectorAll("[data-twelve]"));
const twelve = new Twelve(Object.fromEntries(parts.map((p) => [p.dataset.twelve, p])), sample);
const PAUSE = 150; // milliseconds after the last move: a thousand rows are slow to draw
let latest = null; // the decision that is shown
let lastMultiplier = Infinity; // μ that was chosen last
let waiting = 0; // timer of the open tables

/** The values of the controls: the layer, and the settings of solve(). */
function chosen() {
  const layer = sample.layers[Number(controls.layer.value)];
  const asked = keepCount(ratios.positions[Number(controls.sparsity.value)], layer.count);
  const bounds = controls.bounds.value;
  return {
    layer,
    settings: {
      criterion: controls.criterion.value,
      bounds,
      keep: ownCount(bounds, layer.count) ?? asked,
      rate: sample.learning_rates[Number(controls.rate.value)],
      multiplier: multipliers(layer)[Number(controls.multiplier.value)],
      precision: controls.precision.value,
      ties: controls.ties.value,
    },
  };
}

/** The decision of a layer, by its number: what the page shows, for tests. */
function explore(number, settings) {
  return solve(sample.layers[number], settings);
}

function update() {
  const { layer, settings } = chosen();
  tell(layer, settings);
  [latest, lastMultiplier] = [null, settings.multiplier];
  clearTimeout(waiting);
  try {
    latest = solve(layer, settings);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    at("summary").textContent = error.message;
  }
  at("decision").hidden = latest === null; // an earlier one is not what the controls say
  if (latest === null) return;
  showNumbers(latest);
  at("summary").textContent = inWords(latest);
  draw();
  showCertificate(latest);
  waiting = setTimeout(showTables, PAUSE);
}

function draw() {
  const unit = latest.settings.criterion === "magnitude" ? "in units of θ" : "in units of the loss";
  const inside = latest.nodes.length > 1;
  (inside ? drawNodes : drawRanking)(at("ranking"), latest, unit);
  for (const part of document.querySelectorAll("[data-bounds]")) {
    part.hidden = (part.dataset.bounds === "some") !== inside;
  }
  at("binding").textContent = inside ? bindingInWords(latest) : "";
  drawDual(at("dual"), latest);
  grid.show(latest);
}

/** Show the values of the sliders, also to a screen reader. */
function tell(layer, { criterion, bounds, keep, rate, multiplier }) {
  const { p, q } = ratios.positions[Number(controls.sparsity.value)];
  const own = ownCount(bounds, layer.count) !== null;
  const ratio = percent(own ? 1 - keep / layer.count : Number(p) / Number(q));
  const says = {
    sparsity: `${ratio}: keep ${keep} of ${layer.count}${own ? ", by the bounds" : ""}`,
    rate: rate === sample.learning_rate ? `${repr(rate)}, the run's own` : repr(rate),
    multiplier: multiplierInWords(multiplier),
  };
  for (const [id, words] of Object.entries(says)) {
    at(`${id}-value`).textContent = words;
    controls[id].setAttribute("aria-valuetext", words);
  }
  controls.multiplier.disabled = criterion !== "path" || layer.curvature === null;
  controls.sparsity.disabled = own;
}

function multiplierInWords(multiplier) {
  if (multiplier === 0) return "0: optimal brain damage";
  if (multiplier === Infinity) return "∞: PINS";
  return `2${raised(Math.log2(multiplier))}`;
}

/** The decision in a sentence or two. */
function inWords({ keep, count, r, multiplier, unique, feasible, gap, regret: { exact, scale } }) {
  const lost = exact.n === 0n ? "0" : percent(quotient(exact, scale));
  const under = `Regret under the scores of PINS: ${lost}${exact.n === 0n ? "" : " of Σ|s|"}.`;
  if (!feasible) {
    return `refuted: kept ${count} of ${r.length}, the claim says ${keep}. ${under}`;
  }
  const equal = gap.n === 0n ? "Primal and dual value are equal, exactly." : "The values differ.";
  const only = unique ? "the optimum is unique" : "other optima tie with it";
  return `${count} of ${r.length} kept, λ = ${shown(multiplier, 4)}, ${only}. ${equal} ${under}`;
}

function showNumbers(solution) {
  const { keep, count, r, multiplier, interval, primal, dual, gap, feasible, tied } = solution;
  const lost = solution.regret;
  const relative = percent(lost.scale.n === 0n ? 0 : quotient(lost.exact, lost.scale));
  const cards = {
    kept: `${count} of ${r.length}`,
    asked: feasible ? "kept, exactly as asked" : `kept; asked for ${keep}`,
    lambda: shown(multiplier, 4),
    unique: `λ, a threshold at which ${tied.length || "none"} tie`,
    gap: gap.n === 0n ? "0" : shown(approximate(gap), 3),
    regret: relative,
    exchanged: `of Σ|s|: regret; ${counted(lost.exchanged, "weight")} exchanged`,
  };
  for (const [name, content] of Object.entries(cards)) at(`card-${name}`).textContent = content;

  const { exact: regret, scale } = lost;
  const rows = { lambda: multiplier, ...interval, primal, dual, gap, regret, scale };
  for (const [name, number] of Object.entries(rows)) {
    const infinite = Math.abs(number) === Infinity; // an end of the dual interval
    const exact = typeof number === "number" && !infinite ? dyadic(number) : number;
    at(`about-${name}`).textContent = shown(infinite ? number : approximate(exact));
    at(`exact-${name}`).textContent = infinite ? shown(number) : written(fraction(exact));
  }
  at("about-relative").textContent = relative;
}

/** The tables that are open. */
function showTables() {
  if (latest === null) return;
  if (at("weights").open) fill(at("weights-rows"), weightRows(latest));
  if (at("nodes").open) fill(at("nodes-rows"), nodeRows(latest));
}

function fill(table, rows) {
  const made = rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((content) => element("td", String(content))));
    return row;
  });
  table.replaceChildren(...made);
}

/** The rows of the table of all weights. */
function weightRows({ layer, order, r, s, kept, tied }) {
  const rank = new Map(order.map((i, place) => [i, place + 1]));
  return Array.from(r, (score, i) => {
    const numbers = [layer.weights[i], layer.gradient[i], layer.curvature?.[i], s[i], score];
    const cells = numbers.map((number) => (number === undefined ? "–" : shown(number, 4)));
    const said = `${kept[i] ? "kept" : "pruned"}${tied.includes(i) ? ", tied" : ""}`;
    return [layer.index[i], ...cells, rank.get(i), said];
  });
}

/** The origin of the scores, in ASCII. */
function criterionInWords(layer, { criterion, rate, multiplier, precision }) {
  const step = `eta = ${repr(rate)}`;
  const rounded = precision === "float64" ? "" : `, rounded to ${precision}`;
  if (criterion !== "path") return `${criterion}, ${step}${rounded}`;
  if (multiplier === Infinity) return `pins, ${step}${rounded}`;
  const mu = multiplier === 0 ? "0" : `2**${Math.log2(multiplier)}`;
  return `trust-region, mu = ${mu}, delta = ${repr(layer.offset)}, ${step}${rounded}`;
}

/** The statements of a certificate that are not numbers. */
function about({ layer, settings }) {
  const criterion = criterionInWords(layer, settings);
  return { name: layer.name, criterion, madeBy: `${sample.made_by}, explorer`, prefix: "" };
}

async function showCertificate(solution) {
  const stated = about(solution);
  at("verdict").textContent = verdict(solution, stated);
  at("verdict").className = `line ${solution.feasible ? "good" : "bad"}`;
  const files = await proofFiles(solution, stated);
  if (solution === latest) at("certificate").textContent = files.text; // else a control moved
}

/** Show another layer: its twelve weights, bounds, and its range of μ; μ stays or moves up. */
function enter() {
  const layer = sample.layers[Number(controls.layer.value)];
  const positions = multipliers(layer);
  offerBounds(layer.count);
  controls.multiplier.max = positions.length - 1;
  controls.multiplier.value = positions.findIndex((multiplier) => multiplier >= lastMultiplier);
  twelve.begin(layer);
  update();
}

/** The bounds that a sample of this size can have; others are disabled, with the reason. */
function offerBounds(count) {
  const before = controls.bounds.value || "none";
  const options = Object.entries(BOUNDS).map(([name, { says }]) => {
    const reason = misfit(name, count);
    const option = new Option(reason ? `${says} (${reason})` : says, name);
    option.disabled = reason !== "";
    return option;
  });
  controls.bounds.replaceChildren(...options);
  controls.bounds.value = misfit(before, count) ? "none" : before;
  offerTies();
}

/** Under bounds equal scores go by index: all of them, or none, is a rule for the root alone. */
function offerTies() {
  const { ties, bounds } = controls;
  for (const name of ["kept", "pruned"]) {
    ties.querySelector(`[value=${name}]`).disabled = bounds.value !== "none";
  }
  if (ties.selectedOptions[0].disabled) ties.value = "lower";
}

controls.sparsity.max = ratios.positions.length - 1;
controls.sparsity.value = ratios.start;
controls.rate.max = sample.learning_rates.length - 1;
controls.rate.value = sample.learning_rates.indexOf(sample.learning_rate);
controls.bounds.addEventListener("input", offerTies);
for (const [id, control] of Object.entries(controls)) {
  control.addEventListener("input", id === "layer" ? enter : update);
}
for (const id of ["weights", "nodes"]) at(id).addEventListener("toggle", showTables);
at("ask").addEventListener("click", async () => {
  offer(at("downloads"), await proofFiles(latest, about(latest)));
});
window.pins = { sample, explore, select, treeOf, ownCount, misfit, exactSum, fraction, claimed };
Object.assign(window.pins, { keepCount, toBfloat16, repr });
enter();
new ResizeObserver(() => latest && draw()).observe(at("ranking"));

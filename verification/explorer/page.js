/** Controls → decision → page. */

const at = (id) => document.getElementById(id);
const sample = read(at("sample").textContent);
const names = ["layer", "criterion", "multiplier", "sparsity", "rate", "ties", "precision"];
const controls = Object.fromEntries(names.map((id) => [id, at(id)]));
const ratios = sparsities(sample.sparsity);
const grid = new MaskGrid(at("mask"), at("legend"), at("weight"));
const parts = Array.from(document.querySelectorAll("[data-twelve]"));
const twelve = new Twelve(Object.fromEntries(parts.map((p) => [p.dataset.twelve, p])), sample);
const PAUSE = 150; // milliseconds after the last move: a thousand rows are slow to draw
let latest = null; // the decision that is shown
let waiting = 0; // timer of the table of all weights

/** The values of the controls: the layer, and the settings of solve(). */
function chosen() {
  const layer = sample.layers[Number(controls.layer.value)];
  return {
    layer,
    settings: {
      criterion: controls.criterion.value,
      keep: keepCount(ratios.positions[Number(controls.sparsity.value)], layer.count),
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
  try {
    latest = solve(layer, settings);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    at("summary").textContent = error.message;
    return;
  }
  showNumbers(latest);
  at("summary").textContent = inWords(latest);
  draw();
  showCertificate(latest);
  clearTimeout(waiting);
  if (at("weights").open) waiting = setTimeout(() => showWeights(latest), PAUSE);
}

function draw() {
  const unit = latest.settings.criterion === "magnitude" ? "in units of θ" : "in units of the loss";
  drawRanking(at("ranking"), latest, unit);
  drawDual(at("dual"), latest);
  grid.show(latest);
}

/** Show the values of the sliders, also to a screen reader. */
function tell(layer, { criterion, keep, rate, multiplier }) {
  const { p, q } = ratios.positions[Number(controls.sparsity.value)];
  const says = {
    sparsity: `${percent(Number(p) / Number(q))}: keep ${keep} of ${layer.count}`,
    rate: rate === sample.learning_rate ? `${repr(rate)}, the run's own` : repr(rate),
    multiplier: multiplierInWords(multiplier),
  };
  for (const [id, words] of Object.entries(says)) {
    at(`${id}-value`).textContent = words;
    controls[id].setAttribute("aria-valuetext", words);
  }
  controls.multiplier.disabled = criterion !== "path" || layer.curvature === null;
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

/** The table of all weights. */
function showWeights(solution) {
  const { layer, order, r, s } = solution;
  const rank = new Map(order.map((i, place) => [i, place + 1]));
  const rows = Array.from(r, (score, i) => {
    const row = element("tr");
    const numbers = [layer.weights[i], layer.gradient[i], layer.curvature?.[i], s[i], score];
    const cells = numbers.map((number) => (number === undefined ? "–" : shown(number, 4)));
    const tie = solution.tied.includes(i) ? ", tied" : "";
    const said = `${solution.kept[i] ? "kept" : "pruned"}${tie}`;
    const all = [layer.index[i], ...cells, rank.get(i), said];
    row.append(...all.map((content) => element("td", String(content))));
    return row;
  });
  at("weights-rows").replaceChildren(...rows);
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
  const [byIndex, madeBy] = [settings.ties === "lower", `${sample.made_by}, explorer`];
  return { name: layer.name, criterion, byIndex, madeBy, prefix: "" };
}

async function showCertificate(solution) {
  const stated = about(solution);
  at("verdict").textContent = verdict(solution, stated);
  at("verdict").className = solution.feasible ? "good" : "bad";
  const files = await proofFiles(solution, stated);
  if (solution === latest) at("certificate").textContent = files.text; // else a control moved
}

/** Show another layer: its twelve weights, and its range of μ; μ stays or moves up. */
function enter() {
  const { layer } = chosen();
  const positions = multipliers(layer);
  const before = latest?.settings.multiplier ?? Infinity;
  controls.multiplier.max = positions.length - 1;
  controls.multiplier.value = positions.findIndex((multiplier) => multiplier >= before);
  twelve.begin(layer);
  update();
}

controls.sparsity.max = ratios.positions.length - 1;
controls.sparsity.value = ratios.start;
controls.rate.max = sample.learning_rates.length - 1;
controls.rate.value = sample.learning_rates.indexOf(sample.learning_rate);
for (const [id, control] of Object.entries(controls)) {
  control.addEventListener("input", id === "layer" ? enter : update);
}
at("weights").addEventListener("toggle", () => at("weights").open && showWeights(latest));
at("ask").addEventListener("click", async () => {
  offer(at("downloads"), await proofFiles(latest, about(latest)));
});
window.pins = { sample, explore, select, exactSum, fraction, keepCount, toBfloat16, toHex, repr };
enter();
new ResizeObserver(() => latest && draw()).observe(at("ranking"));

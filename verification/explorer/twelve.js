/** Twelve weights to prune by hand: toggles, a verdict by exact regret, the optimum, the proof. */

class Twelve {
  /** The elements of the section by name, and the sample whose layers are played. */
  constructor(parts, sample) {
    Object.assign(this, { parts, sample });
    parts.check.addEventListener("click", () => this.#check());
    parts.optimum.addEventListener("click", () => this.#showOptimum());
    parts.clear.addEventListener("click", () => this.#set(this.kept.map(() => false), ""));
    parts.ask.addEventListener("click", () => this.#ask());
  }

  /** Begin with a layer: its scores s at the run's own η, in float64, and nothing kept. */
  begin(layer) {
    const chosen = layer.twelve;
    this.parts.play.hidden = chosen === null;
    this.parts.none.hidden = chosen !== null;
    if (chosen === null) return;
    const own = { rate: this.sample.learning_rate, precision: "float64" };
    const scores = scoresOf(layer, "pins", own);
    this.layer = layer;
    this.scores = Float64Array.from(chosen.places, (place) => scores[place]);
    this.unit = chosen.exponent;
    this.keep = chosen.keep;
    this.parts.unit.textContent = `10${raised(chosen.exponent)}`;
    this.buttons = chosen.digits.map((digits, i) => this.#button(letter(i), digits, i));
    this.parts.weights.replaceChildren(...this.buttons);
    this.parts.values.replaceChildren(
      ...chosen.places.map((place, i) => {
        const where = `${letter(i)}: index ${layer.index[place]}`;
        const numbers = `θ = ${repr(layer.weights[place])}, g = ${repr(layer.gradient[place])}`;
        return element("li", `${where}, ${numbers}, s = ${repr(this.scores[i])}`);
      }),
    );
    this.#set(chosen.places.map(() => false), "");
  }

  #button(name, digits, i) {
    const button = element("button");
    button.type = "button";
    button.append(element("b", name), element("span", signed(digits)), element("small"));
    button.addEventListener("click", () => {
      this.#set(this.kept.map((keeps, j) => (j === i ? !keeps : keeps)), "");
    });
    return button;
  }

  /** Set the mask, and clear the messages about an earlier one. */
  #set(kept, said) {
    this.kept = kept;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", kept[i]);
      button.lastChild.textContent = kept[i] ? "kept" : "pruned";
    });
    const sum = `${this.#inUnits(value(this.scores, kept))} × 10${raised(this.unit)}`;
    const live = `${ones(kept)} of ${this.keep} kept, sum ${sum}.`;
    this.#say({ live, said, exact: "" });
    this.parts.proof.hidden = true;
  }

  #say(words) {
    for (const [part, text] of Object.entries(words)) this.parts[part].textContent = text;
  }

  #check() {
    const tree = treeOf("none", this.kept.length, this.keep);
    const missing = this.keep - ones(this.kept);
    if (missing !== 0) {
      const change = missing > 0 ? `keep ${missing} more` : `prune ${-missing} more`;
      const count = `Kept ${ones(this.kept)} of ${this.kept.length}`;
      this.#say({ said: `${count}, the claim says ${this.keep}: ${change}.`, exact: "" });
      return;
    }
    const lost = regret(this.scores, tree, this.kept).exact;
    const exact = `Regret, exactly: ${written(fraction(lost))}`;
    const [{ gain, lose }] = nodesOf(this.scores, this.kept, tree);
    const [more, less] = [gain[0], lose[0]];
    const exchange = `prune ${letter(less)} and keep ${letter(more)}`;
    const gained = difference(dyadic(this.scores[more]), dyadic(this.scores[less]));
    const optimal = "This is the optimum: its regret is 0, exactly.";
    const sum = `its sum falls short by ${this.#inUnits(lost)} × 10${raised(this.unit)}`;
    const most = `The exchange that gains most: ${exchange}, ${this.#inUnits(gained)}.`;
    this.#say({ said: lost.n === 0n ? optimal : `Not the optimum: ${sum}. ${most}`, exact });
  }

  #showOptimum() {
    const best = select(this.scores, treeOf("none", this.kept.length, this.keep));
    const letters = best.flatMap((keeps, i) => (keeps ? [letter(i)] : []));
    this.#set(best, `The optimum keeps ${letters.join(", ")}.`);
  }

  async #ask() {
    const { parts, scores, kept, keep } = this;
    const proved = proof(scores, treeOf("none", kept.length, keep), kept);
    const about = {
      name: this.layer.name,
      criterion: `pins, eta = ${repr(this.sample.learning_rate)}`,
      madeBy: `${this.sample.made_by}, explorer`,
      prefix: "twelve-",
    };
    parts.verdict.textContent = verdict(proved, about);
    parts.lambda.textContent = proofInWords(proved, this.#inUnits(dyadic(proved.multiplier)));
    const sides = Array.from(scores, (score, i) => this.#side(proved, score, i));
    parts.sides.replaceChildren(...sides);
    parts.proof.hidden = false;
    const files = await proofFiles(proved, about);
    parts.certificate.textContent = files.text;
    offer(parts.downloads, files);
  }

  #side({ multiplier, kept }, score, i) {
    const sign = score > multiplier ? ">" : score < multiplier ? "<" : "=";
    const wrong = kept[i] ? score < multiplier : score > multiplier;
    const row = element("tr");
    const place = [kept[i] ? "kept" : "pruned", this.#inUnits(dyadic(score)), `${sign} λ`];
    const cells = [...place, wrong ? "✗ wrong" : "✓ right"].map((cell) => element("td", cell));
    row.append(element("th", letter(i)), ...cells);
    return row;
  }

  /** A dyadic number in the common unit; the unit, 10^e, is for the eye. */
  #inUnits(number) {
    const inUnit = approximate(number) * 10 ** -this.unit;
    return inUnit.toFixed(2).replace("-", "−");
  }
}

/** The name of a weight. */
function letter(i) {
  return String.fromCharCode(65 + i);
}

function signed(digits) {
  return digits < 0 ? `−${-digits}` : `${digits}`;
}

function proofInWords({ feasible, optimal, keep, count, r }, lambda) {
  const threshold = `λ = ${lambda}, the score of rank ${keep}`;
  if (!feasible) {
    const refuted = `kept ${count} of ${r.length}, the claim says ${keep}`;
    return `There is no proof: ${refuted}. (${threshold}.)`;
  }
  if (!optimal) {
    return (
      `${threshold}. Some scores are on the wrong side of it; their distances from it sum to the ` +
      "regret, which the certificate states as a fraction."
    );
  }
  return (
    `${threshold}. Every kept score is at least λ and every pruned one at most λ, so no ${keep} ` +
    "of them sum to more."
  );
}

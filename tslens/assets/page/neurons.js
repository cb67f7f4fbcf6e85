"use strict";
// The card of the chosen neuron: what was found, figures, places where it fires, what it writes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { make, minus, change, chart } = window.figures;
  const byId = (id) => document.getElementById(id);
  const marks = { role: "◆", candidate: "●", unclear: "○", no: "" };
  const nulls = {
    shifted: "null: labels moved around the stories",
    twins: "null: random neurons",
    tokens: "its mean for each word alone",
    bigrams: "its mean for each pair of words",
    positions: "its mean at each position",
  };
  const ways = ["its mean in its place", "zero in its place", "another token’s activation"];

  function areas(card) {
    if (!card.role) return [];
    const [area, low, high] = card.area;
    const lines = [["this neuron", "value", area, low, high]];
    for (const [name, value] of Object.entries(card.nulls)) {
      lines.push([nulls[name] ?? name, name === "shifted" || name === "twins" ? "null" : "lexical", value]);
    }
    const least = Math.min(0.5, ...lines.map((line) => line[3] ?? line[2]));
    const title = "Area under the curve of the label, and what simpler things would give";
    return [chart(lines, [Math.floor(10 * least) / 10, 1], (value) => value.toFixed(2), "area", title)];
  }

  function causes(card) {
    if (!card.cause.length) return [];
    const lines = card.cause.map(([cost, beyond], i) => [ways[i], i ? "ablation" : "edge", cost, undefined, undefined, beyond]);
    const all = card.cause.flat();
    const [least, most] = [Math.min(0, ...all), Math.max(0, ...all)];
    const margin = 0.04 * (most - least || 1);
    const note = "What it costs to take it away, nats at the tokens of its label. Hollow mark, second figure: beyond like tokens.";
    return [make("p", note, "hint"), chart(lines, [least < 0 ? least - margin : 0, most + margin], change, "nats", note)];
  }

  function histogram(card) {
    const [least, largest, labelled, others] = card.bins;
    const [width, height, base] = [640, 120, 102];
    const draw = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text !== undefined) element.textContent = text;
      return element;
    };
    // Square roots: else the peak at rest hides all else.
    const top = Math.sqrt(Math.max(1, ...labelled, ...others));
    const step = width / others.length;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "bins" });
    svg.setAttribute("aria-label", "Share of tokens by activation, with the label and without");
    const bar = (share, bin, side, kind) => {
      const tall = ((base - 6) * Math.sqrt(share)) / top;
      const x = bin * step + (side * step) / 2;
      const mark = draw("rect", { x: x + 0.5, width: step / 2 - 1, y: base - tall, height: tall, class: kind });
      mark.append(draw("title", {}, `${(share / 10).toFixed(1)}% of the tokens ${kind === "labelled" ? "with" : "without"} the label`));
      svg.append(mark);
    };
    others.forEach((share, bin) => bar(share, bin, 1, "others"));
    if (card.role) labelled.forEach((share, bin) => bar(share, bin, 0, "labelled"));
    svg.append(draw("line", { x1: 0, x2: width, y1: base, y2: base }));
    const zero = ((0 - least) / (largest - least || 1)) * width;
    svg.append(draw("text", { x: 0, y: height - 4 }, minus(String(least))));
    if (zero > 40) svg.append(draw("text", { x: zero, y: height - 4, "text-anchor": "middle" }, "0"));
    svg.append(draw("text", { x: width, y: height - 4, "text-anchor": "end" }, String(largest)));
    const legend = make("p", "", "hint");
    if (card.role) legend.append(make("span", "■ ", "labelled"), `${card.role}  `);
    legend.append(make("span", "■ ", "others"), card.role ? "other tokens; share of each, square root" : "all tokens, square root");
    return [make("h3", "Activation"), legend, svg];
  }

  function passages(card) {
    const title = (quantile) => (quantile ? `Where ${Math.round(100 * quantile)}% of its activations lie below` : "Where it is strongest");
    const parts = [make("h3", "In the stories"), make("p", "The outlined token is the place; colour is its activation there and around, orange below zero.", "hint")];
    let last = null;
    for (const [quantile, place, value, ids, levels] of card.passages) {
      if (title(quantile) !== last) parts.push(make("p", (last = title(quantile)), "hint"));
      const text = make("p", "", "text");
      ids.forEach((id, i) => {
        const word = make("span", data.vocab[id], `${levels[i] < 0 ? "n" : "p"}${i === place ? " asks" : ""}`);
        word.style.setProperty("--x", (Math.abs(levels[i]) / 99).toFixed(2));
        text.append(word);
      });
      text.title = minus(value.toFixed(2));
      parts.push(text);
    }
    return parts;
  }

  function written(card) {
    const list = (title, tokens) => {
      const line = make("p", `${title} `, "tokens");
      for (const token of tokens) line.append(make("q", token.trim() || token), " ");
      return line;
    };
    return [make("h3", "What it writes"), list("raises", card.raises), list("lowers", card.lowers)];
  }

  function show(name) {
    const card = data.neurons[name];
    if (!card) return;
    byId("panel").hidden = false;
    const head = byId("head");
    head.replaceChildren(name, make("small", `${card.role || "no label"} · ${marks[card.status]} ${card.status}`));
    const [found, ...rest] = card.says;
    byId("says").replaceChildren(make("p", found), ...rest.map((line) => make("p", line, "hint")));
    byId("figures").replaceChildren(...areas(card), ...causes(card), ...histogram(card));
    byId("passages").replaceChildren(...passages(card));
    byId("written").replaceChildren(...written(card));
    for (const row of document.querySelectorAll("#scores tr.chosen")) row.classList.remove("chosen");
    document.querySelector(`#scores a[href="#${name}"]`)?.closest("tr").classList.add("chosen");
  }

  // Say so where the table is wider than its box.
  const box = document.querySelector("#neurons .box");
  new ResizeObserver(() => {
    const wide = box.scrollWidth > box.clientWidth;
    box.classList.toggle("wide", wide);
    byId("sideways").hidden = !wide;
  }).observe(box);

  const asked = () => decodeURIComponent(location.hash.slice(1));
  addEventListener("hashchange", () => show(asked()));
  document.getElementById("scores").addEventListener("click", ({ target }) => {
    const link = target.closest("tbody tr")?.querySelector("a");
    if (link && target !== link) location.hash = link.hash;
  });
  show(data.neurons[asked()] ? asked() : data.selected);
})();

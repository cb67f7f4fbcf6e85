"use strict";
// The labelled story: the layer that is coloured, and what is known of the chosen word.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const story = document.querySelector(".labelled");
  const words = [...story.querySelectorAll("[data-u]")];
  const card = document.getElementById("word");
  const legend = document.getElementById("legend");
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const legends = {
    grammar: ["subject", "action", "object"],
    entities: ["protagonist", "introduction"],
    topic: ["topic"],
    speech: ["quote"],
    parts: ["opening", "problem", "turn", "ending", "moral"].map((part) => `part-${part}`),
    pos: ["NOUN", "PROPN", "PRON", "VERB", "AUX", "ADJ", "ADV"].map((pos) => `pos-${pos}`),
  };
  const near = new Set(["subject", "action", "antecedent"]); // pointed at as soon as a word is chosen
  function colour(layer) {
    story.dataset.layer = layer;
    legend.replaceChildren(
      ...legends[layer].map((name) => make("span", name.replace(/^(part|pos)-/, ""), `swatch ${name}`)),
    );
    legend.dataset.layer = layer;
    for (const button of document.querySelectorAll("[data-layer][aria-pressed]"))
      button.setAttribute("aria-pressed", String(button.dataset.layer === layer));
  }
  function choose(index) {
    for (const word of words) word.classList.remove("chosen", "key");
    words[index].classList.add("chosen");
    const list = make("dl");
    for (const [name, value] of Object.entries(data.units[index])) {
      const row = make("div");
      row.append(make("dt", name.replace("_", " ")), make("dd", String(value)));
      list.append(row);
    }
    const parts = [make("h3", words[index].textContent), list];
    const relations = Object.entries(data.keys[index]);
    if (relations.length) parts.push(make("h3", "looks back to"));
    for (const [name, keys] of relations) {
      const line = make("button", `${name.replace("_", " ")}: ${keys.map((key) => words[key].textContent).join(", ")}`);
      line.type = "button";
      line.addEventListener("click", () => point(keys));
      parts.push(line);
    }
    card.replaceChildren(...parts);
    point(relations.filter(([name]) => near.has(name)).flatMap(([, keys]) => keys));
  }
  function point(keys) {
    for (const word of words) word.classList.remove("key");
    for (const key of keys) words[key].classList.add("key");
  }
  for (const button of document.querySelectorAll("[data-layer][aria-pressed]"))
    button.addEventListener("click", () => colour(button.dataset.layer));
  for (const [index, word] of words.entries()) {
    word.tabIndex = 0;
    word.addEventListener("click", () => choose(index));
    word.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(index);
      }
    });
  }
  legend.dataset.layer = "grammar";
})();

"use strict";
// Where a figure comes from: with "sources" on, whatever is pointed at or focused shows the record of its file.
// An element says data-from="MODEL/PART"; the nearest one around a figure counts.
(() => {
  const { make } = window.figures;
  const { byId, model, link } = window.report;
  const made = JSON.parse(byId("data").textContent).made;
  const titles = { model: "training", heads: "heads", neurons: "neurons", map: "what parts carry", grades: "grades", texts: "texts, read anew" };
  const button = byId("sources");
  const panel = byId("source");

  // The record of a part; of texts that were read for this page the page's own.
  function recordOf(name, part) {
    if (part === "texts") return { file: "this page", record: made };
    return model(name)?.origins[part];
  }
  function told(value) {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return /^[0-9a-f]{40,}$/.test(text) ? text.slice(0, 12) : text;
  }
  function show(element) {
    const from = element?.closest?.("[data-from]")?.dataset.from;
    if (!from || from === panel.dataset.shows) return;
    const cut = from.lastIndexOf("/");
    const [name, part] = [from.slice(0, cut), from.slice(cut + 1)];
    panel.dataset.shows = from;
    const origin = recordOf(name, part);
    const line = make("p");
    line.append(make("b", `${name}, ${titles[part] ?? part}: `));
    if (!origin) line.append("not measured.");
    else {
      const facts = Object.entries(origin.record).filter(([fact]) => !["started", "seconds", "packages", "machine"].includes(fact));
      line.append(origin.file, ...facts.flatMap(([fact, value]) => [" · ", make("small", fact.replaceAll("_", " ")), ` ${told(value)}`]), " · ");
      line.append(link("the whole record", name, "origin"));
    }
    panel.replaceChildren(line);
  }
  function turn(on) {
    button.setAttribute("aria-pressed", String(on));
    document.body.classList.toggle("sourced", on);
    panel.hidden = !on;
    delete panel.dataset.shows;
    if (on) show(document.querySelector(byId("view").hidden ? "#overview [data-from]" : "#part"));
  }
  button.addEventListener("click", () => turn(panel.hidden));
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, ({ target }) => {
      if (!panel.hidden) show(target);
    });
  }
  window.addEventListener("hashchange", () => {
    if (!panel.hidden) turn(true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "s" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select, textarea")) turn(panel.hidden);
  });
})();

"use strict";
// The reading desk: one prompt, and how every model went on from it, with the grades of each text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { make } = window.figures;
  const byId = (id) => document.getElementById(id);
  const [desk, form, list] = [byId("desk"), byId("asked"), byId("prompt")];
  const buttons = [...byId("samples").querySelectorAll("button")];
  const boxes = [...form.querySelectorAll("[type=checkbox]")];
  const TAIL = 90; // characters of the prompt before a completion
  let [prompt, sample] = [0, data.samples[0]];

  const begins = () => {
    const mark = make("span", "", "begins");
    mark.title = "here the completion begins";
    return mark;
  };

  // The last words of the prompt, so that a sentence is read as a whole.
  function tail(text) {
    if (text.length <= TAIL) return text;
    const last = text.slice(-TAIL);
    const blank = last.search(/\s/);
    return `… ${last.slice(blank + 1)}`;
  }

  function points(text) {
    const rows = data.criteria.map((criterion, i) => {
      const value = text.grades[i];
      const box = make("div");
      const figure = make("dd", value.toFixed(1), value < 5 ? "n" : "p");
      figure.style.setProperty("--x", (Math.abs(value - 5) / 5).toFixed(2));
      box.append(make("dt", criterion), figure);
      const ends = text.intervals?.[i];
      box.title = `${criterion} ${value.toFixed(1)}`;
      if (ends) {
        box.append(make("dd", `${ends[0].toFixed(1)}–${ends[1].toFixed(1)}`, "interval"));
        box.title += `, 95% prediction interval ${ends[0].toFixed(1)} to ${ends[1].toFixed(1)}`;
      }
      return box;
    });
    const all = make("dl", "", "points");
    all.append(...rows);
    return all;
  }

  function flags(text) {
    const said = (text.flags ?? []).map((flag) => make("span", flag));
    if (text.cut) said.push(make("span", "cut at the limit of tokens"));
    for (const again of text.again ?? []) {
      said.push(make("span", `graded again ${again.map((value) => value.toFixed(1)).join(", ")}`, "again"));
    }
    if (!said.length) return [];
    const line = make("p", "", "flags");
    line.append(...said);
    return [line];
  }

  function card(label, texts, given) {
    const article = make("article", "", "card");
    const head = make("h3", label);
    article.append(head);
    const text = texts.length === 1 ? texts[0] : texts.find((one) => one.n === sample);
    if (!text) {
      article.append(make("p", "no text of this sample", "detail"));
      return article;
    }
    if (text.n !== sample || (texts.length === 1 && data.samples.length > 1)) head.append(make("small", "its only text"));
    if (text.failed !== undefined) {
      article.append(make("p", `no grade: ${text.failed}`, "failed"), make("p", text.detail, "detail"));
    } else {
      const age = make("small", `age ${(data.ages[text.age] ?? text.age).replace("3 or under", "≤ 3")}`, "age");
      age.title = `age group ${text.age}, by the judge`;
      head.append(age);
      article.append(points(text));
    }
    article.append(...flags(text));
    const story = make("p", "", "text");
    story.append(make("span", tail(given), "soft"), begins(), text.text || make("span", "(nothing)", "soft"));
    article.append(story);
    if (text.says) {
      const details = make("details");
      details.append(make("summary", "What the judge says"), make("p", text.says));
      article.append(details);
    }
    return article;
  }

  function show() {
    const { id, text, texts } = data.prompts[prompt];
    list.value = prompt;
    byId("before").disabled = prompt === 0;
    byId("after").disabled = prompt === data.prompts.length - 1;
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.sample) === sample));
    byId("given").replaceChildren(text, begins());
    const chosen = boxes.filter((box) => box.checked).map((box) => Number(box.value));
    byId("columns").replaceChildren(...chosen.map((i) => card(data.models[i], texts[i], text)));
    byId("where").textContent = `${id}, prompt ${prompt + 1} of ${data.prompts.length}, sample ${sample}`;
  }

  // The address names the prompt and the sample: #b07/3.
  function remember() {
    history.replaceState(null, "", `#${encodeURIComponent(data.prompts[prompt].id)}/${sample}`);
    show();
  }
  function follow() {
    const [, name, number] = location.hash.match(/^#(.*?)(?:\/(\d+))?$/) ?? [];
    let id = name ?? "";
    try {
      id = decodeURIComponent(id);
    } catch {} // an address that somebody typed
    const found = location.hash ? data.prompts.findIndex((one) => one.id === id) : -1;
    if (found >= 0) prompt = found;
    if (found >= 0 && data.samples.includes(Number(number ?? NaN))) sample = Number(number);
    show();
    if (found >= 0) desk.scrollIntoView();
  }
  function step(by) {
    const to = prompt + by;
    if (to < 0 || to >= data.prompts.length) return;
    prompt = to;
    remember();
  }
  function choose(number) {
    if (!data.samples.includes(number)) return;
    sample = number;
    remember();
  }

  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  list.addEventListener("change", () => {
    prompt = Number(list.value);
    remember();
  });
  for (const button of buttons) button.addEventListener("click", () => choose(Number(button.dataset.sample)));
  for (const box of boxes) box.addEventListener("change", show);
  byId("every").addEventListener("click", () => {
    const some = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = some;
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  desk.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target === list) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (/^\d$/.test(event.key)) choose(Number(event.key));
    else return;
    event.preventDefault();
  });
  addEventListener("hashchange", follow);
  form.hidden = byId("texts").hidden = false;
  follow();
})();

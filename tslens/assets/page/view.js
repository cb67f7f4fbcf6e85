"use strict";
// The chosen head on a story: its words, its distance profile, coloured tokens, and CircuitsVis' pattern.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const state = { head: null, story: 0, query: 0, picked: false, drawn: null, count: 0 };
  const story = () => data.stories[state.story];

  // One byte for each query and earlier key, row after row.
  const cache = new Map();
  const patternOf = (head) => {
    const packed = story()?.patterns[head];
    if (!packed) return null;
    if (!cache.has(packed)) cache.set(packed, Uint8Array.from(atob(packed), (char) => char.charCodeAt(0)));
    return cache.get(packed);
  };
  const weight = (pattern, query, key) => (key > query ? 0 : pattern[(query * (query + 1)) / 2 + key] / 255);

  const marks = { role: "◆", candidate: "●", unclear: "○" };
  function drawWords() {
    const head = data.heads[state.head];
    const lines = (head.says ?? []).map(([status, place, found, reason]) => {
      const line = make("p", "", `says ${status}`);
      line.append(make("b", `${marks[status]} ${status}: ${place}`, status), found);
      if (reason) line.append(make("small", reason));
      return line;
    });
    if (head.not) lines.push(make("p", `Not beyond its nulls: ${head.not}.`, "hint"));
    byId("says").replaceChildren(...lines);
  }

  function drawProfile() {
    const values = data.heads[state.head].profile ?? [];
    const place = byId("profile");
    place.replaceChildren();
    if (!values.length) return;
    const top = Math.max(0.001, ...values.map((value) => value ?? 0));
    const peak = values.indexOf(Math.max(...values.map((value) => value ?? 0)));
    const [width, height, left, bottom] = [Math.max(260, Math.min(640, place.clientWidth)), 130, 34, 18];
    const step = (width - left) / values.length;
    const draw = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.setAttribute("aria-label", `Mean attention by distance; largest at ${peak}, ${top.toFixed(2)}`);
    const y = (value) => 8 + (height - bottom - 8) * (1 - value / top);
    for (const value of [0, top / 2, top]) {
      svg.append(
        draw("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
        draw("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)),
      );
    }
    values.forEach((value, distance) => {
      const x = left + distance * step;
      const bar = draw("rect", { x: x + step * 0.1, width: step * 0.8, y: y(value ?? 0), height: y(0) - y(value ?? 0) });
      bar.append(draw("title", {}, `${distance}: ${value ?? "none"}`));
      svg.append(bar);
      if (distance < 2 || distance % 8 === 0) {
        svg.append(draw("text", { x: x + step / 2, y: height - 4, "text-anchor": "middle" }, distance));
      }
    });
    const numbers = make("details");
    const box = make("div", "", "box");
    const table = make("table");
    table.innerHTML = "<thead><tr><th scope=col>tokens back</th><th scope=col>mean attention</th></tr></thead>";
    const body = make("tbody");
    values.forEach((value, distance) => {
      const row = make("tr");
      row.append(make("td", String(distance)), make("td", value === null ? "–" : value.toFixed(4)));
      body.append(row);
    });
    table.append(body);
    box.append(table);
    numbers.append(make("summary", "As numbers"), box);
    place.append(
      make("h3", "How far back it looks"),
      make("p", "Mean attention by distance in tokens; 0 is the token itself.", "hint"),
      svg,
      numbers,
    );
  }

  function buildTokens() {
    const text = byId("text");
    text.replaceChildren();
    story().tokens.forEach((token, index) => {
      const word = make("span", token, index === 0 ? "p edge" : "p");
      word.setAttribute("role", "button");
      word.dataset.index = index;
      text.append(word);
      if (token.endsWith("↵")) text.append(make("br"));
    });
    state.query = Math.min(state.query, story().tokens.length - 1);
  }

  // Until a token is chosen: the one from where the head looks most sharply at a token of the text.
  function sharpest(pattern) {
    let [best, most] = [story().tokens.length - 1, 0];
    for (let query = 0; query < story().tokens.length; query += 1) {
      for (let key = 1; key < query; key += 1) {
        if (weight(pattern, query, key) >= most) [best, most] = [query, weight(pattern, query, key)];
      }
    }
    return best;
  }

  function colourTokens() {
    const pattern = patternOf(state.head);
    if (pattern && !state.picked) state.query = sharpest(pattern);
    const query = state.query;
    const weights = [];
    for (const word of byId("text").querySelectorAll("span")) {
      const key = Number(word.dataset.index);
      const share = pattern ? weight(pattern, query, key) : 0;
      weights.push([share, key]);
      word.style.setProperty("--x", share.toFixed(3));
      word.classList.toggle("later", key > query);
      word.setAttribute("aria-pressed", key === query);
      word.tabIndex = key === query ? 0 : -1;
      word.title = key > query ? "" : share.toFixed(2);
    }
    const quote = (index) => make("q", story().tokens[index].trim() || story().tokens[index]);
    const looks = byId("looks");
    if (!pattern) {
      looks.replaceChildren(`This page holds no pattern of ${state.head}.`);
      return;
    }
    looks.replaceChildren("From ", quote(query), ` (token ${query}) ${state.head} looks at `);
    const most = weights.sort((a, b) => b[0] - a[0]).filter(([share]) => share >= 0.02).slice(0, 4);
    most.forEach(([share, key], place) => {
      looks.append(place ? ", " : "", quote(key), ` ${share.toFixed(2)}`);
    });
    looks.append(most.length ? "." : "nothing above 0.02.");
    if (!state.picked) looks.append(make("small", " Shown first: the token with its sharpest look."));
  }

  // CircuitsVis draws with React into a fresh element each time, and only once the place is in view.
  const inView = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) drawPattern();
  });
  function drawPattern() {
    const pattern = patternOf(state.head);
    const wanted = `${state.head} ${state.story}`;
    if (state.drawn === wanted) return;
    state.drawn = wanted;
    const place = byId("pattern");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Attention pattern of ${state.head} on ${story().title}`);
    if (!pattern) {
      place.replaceChildren(make("p", `This page holds no pattern of ${state.head}.`));
      return;
    }
    const tokens = story().tokens.slice(0, data.chart_tokens);
    const slot = make("div");
    slot.id = `pattern-${++state.count}`;
    place.replaceChildren(slot);
    CircuitsVis.render(slot.id, CircuitsVis.AttentionPattern, {
      tokens,
      attention: tokens.map((_, query) =>
        tokens.map((_, key) => Math.round(weight(pattern, query, key) * 1000) / 1000),
      ),
      minValue: -1,
      maxValue: 1,
      positiveColor: "#0b5a9e",
      negativeColor: "#b8530a",
      upperTriColor: "#ffffff",
      zoomed: false,
    });
  }
  function refreshPattern() {
    inView.disconnect();
    inView.observe(byId("pattern"));
  }

  // A small picture of every head's pattern, in the page's own colours.
  function drawWall() {
    const wall = byId("wall").querySelector("div");
    wall.replaceChildren(
      ...Object.keys(data.heads).filter(patternOf).map((head) => {
        const link = make("a");
        link.href = `#${head}`;
        link.append(make("canvas"), head);
        return link;
      }),
    );
    for (const link of wall.children) paint(link.firstChild, patternOf(link.textContent));
    markChosen();
  }
  function paint(canvas, pattern) {
    const size = story().tokens.length;
    canvas.width = canvas.height = size;
    canvas.style.imageRendering = size < 64 ? "pixelated" : "auto";
    const [red, green, blue] = getComputedStyle(canvas).color.match(/[\d.]+/g).map(Number);
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let query = 0, place = 0; query < size; query += 1) {
      for (let key = 0; key <= query; key += 1, place += 1) {
        image.data.set([red, green, blue, pattern[place]], 4 * (query * size + key));
      }
    }
    context.putImageData(image, 0, 0);
  }

  function markChosen() {
    for (const link of document.querySelectorAll("main a[href^='#L']")) {
      const chosen = link.hash === `#${state.head}`;
      if (chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      link.closest("tr")?.classList.toggle("chosen", chosen);
    }
  }

  function chooseHead(head) {
    state.head = head;
    const [, layer, index] = head.match(/L(\d+)H(\d+)/);
    byId("head").replaceChildren(head, make("small", ` layer ${layer}, head ${index}`));
    drawWords();
    drawProfile();
    markChosen();
    if (story()) {
      colourTokens();
      refreshPattern();
    }
  }
  function chooseStory(index) {
    state.story = index;
    buildTokens();
    colourTokens();
    refreshPattern();
    drawWall();
  }
  function chooseToken(index) {
    state.query = Math.max(0, Math.min(story().tokens.length - 1, index));
    state.picked = true;
    colourTokens();
  }

  const fromAddress = () => {
    const head = decodeURIComponent(location.hash.slice(1));
    return Object.hasOwn(data.heads, head) ? head : null;
  };
  window.addEventListener("hashchange", () => {
    const head = fromAddress();
    if (!head) return;
    chooseHead(head);
    const panel = byId("panel").getBoundingClientRect();
    if (panel.top > innerHeight * 0.7 || panel.bottom < 80) byId("panel").scrollIntoView();
  });
  byId("map")?.addEventListener("click", (event) => {
    const link = event.target.closest("tbody tr")?.querySelector("a");
    if (link && event.target.tagName === "TD") location.hash = link.hash;
  });
  byId("text").addEventListener("click", (event) => {
    const word = event.target.closest("[role=button]");
    if (word) chooseToken(Number(word.dataset.index));
  });
  byId("text").addEventListener("keydown", (event) => {
    const last = story().tokens.length - 1;
    const steps = { ArrowLeft: state.query - 1, ArrowRight: state.query + 1, Home: 0, End: last };
    if (!(event.key in steps)) return;
    event.preventDefault();
    chooseToken(steps[event.key]);
    byId("text").querySelector("[aria-pressed='true']").focus();
  });
  byId("story").addEventListener("change", (event) => chooseStory(Number(event.target.value)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawWall);
  window.addEventListener("beforeprint", drawPattern);

  if (!data.selected) return;
  byId("panel").hidden = false;
  if (data.stories.length) {
    data.stories.forEach(({ title }, index) => {
      const option = make("option", title);
      option.value = index;
      byId("story").append(option);
    });
    byId("story").hidden = data.stories.length === 1;
    byId("wall").hidden = false;
    buildTokens();
  } else {
    byId("stories").hidden = true;
  }
  chooseHead(fromAddress() ?? data.selected);
  if (story()) drawWall();
})();

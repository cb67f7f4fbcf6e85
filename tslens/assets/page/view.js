"use strict";
// The chosen head on a story: coloured tokens and CircuitsVis' pattern; what else shows a head hears of it by event.
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

  // A small picture of every head's pattern, in the page's own colours: in the cards of all heads, else on a wall.
  function drawWall() {
    for (const head of Object.keys(data.heads)) {
      const pattern = patternOf(head);
      const link = document.querySelector(`#heads a[href="#${head}"]`) ?? (pattern && onWall(head));
      if (!link) continue;
      const canvas = link.querySelector("canvas") ?? link.insertBefore(make("canvas"), link.firstChild);
      canvas.hidden = !pattern;
      if (pattern) paint(canvas, pattern);
    }
    markChosen();
  }
  function onWall(head) {
    const wall = byId("wall").querySelector("div");
    const known = wall.querySelector(`a[href="#${head}"]`);
    if (known) return known;
    const link = make("a", head);
    link.href = `#${head}`;
    wall.append(link);
    return link;
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
    document.dispatchEvent(new CustomEvent("head", { detail: head }));
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
    if (byId("wall")) byId("wall").hidden = false;
    buildTokens();
  } else {
    byId("stories").hidden = true;
  }
  chooseHead(fromAddress() ?? data.selected);
  if (story()) drawWall();
})();

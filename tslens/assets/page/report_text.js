"use strict";
// A text token by token: what each token costs, which part of the model changes it, where a neuron fires, where a head
// looks; and the pattern of a head on it, drawn by CircuitsVis.
window.texts = (() => {
  const { make, minus } = window.figures;
  const bytes = (packed) => Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const known = new WeakMap();

  // Numbers of a text, unpacked once: changes by component, activations by neuron, patterns by head.
  function unpack(text) {
    if (!known.has(text)) {
      const n = text.tokens.length;
      const changes = new Int8Array(bytes(text.changes).buffer);
      const step = (row) => text.largest[row] / 127;
      known.set(text, {
        change: (component, token) => {
          const row = text.components.indexOf(component);
          return row < 0 ? 0 : changes[row * n + token] * step(row);
        },
        total: (component) => {
          const row = text.components.indexOf(component);
          let sum = 0;
          if (row >= 0) for (let token = text.first; token < n; token += 1) sum += Math.abs(changes[row * n + token]) * step(row);
          return sum;
        },
        activations: new Map(Object.entries(text.activations).map(([name, [largest, packed]]) => [name, [largest, bytes(packed)]])),
        patterns: new Map(Object.entries(text.patterns).map(([head, packed]) => [head, bytes(packed)])),
      });
    }
    return known.get(text);
  }
  const weight = (pattern, query, key) => (key > query ? 0 : pattern[(query * (query + 1)) / 2 + key] / 255);
  const patternSize = (pattern) => Math.round((Math.sqrt(8 * pattern.length + 1) - 1) / 2);

  // What colours the tokens: [value from -1 to 1, what the pointer says] of each.
  function shades(text, how, asked) {
    const numbers = unpack(text);
    const [kind, name] = [how.split(" ")[0], how.slice(how.indexOf(" ") + 1)];
    return text.tokens.map((_, i) => {
      if (kind === "change") {
        const change = numbers.change(name, i);
        return [change / 1.5, `${change > 0 ? "+" : ""}${minus(change.toFixed(2))} nats without ${name}`];
      }
      if (kind === "neuron") {
        const [largest, levels] = numbers.activations.get(name);
        return [levels[i] / 255, `${((largest * levels[i]) / 255).toFixed(2)} of ${name}`];
      }
      if (kind === "head") {
        const pattern = numbers.patterns.get(name);
        const size = patternSize(pattern);
        const share = asked < size && i < size ? weight(pattern, asked, i) : 0;
        return [share, `${share.toFixed(2)} of the attention of ${name}`];
      }
      const loss = text.losses[i];
      return [loss === null ? 0 : Math.min(1, loss / 8), loss === null ? "" : `${loss.toFixed(2)} nats`];
    });
  }

  // The tokens as words that can be chosen; `choose` is told of a click or of the arrow keys.
  function tokens(text, how, asked, choose) {
    const place = make("div", "", "text reading");
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", "Tokens; arrow keys choose one");
    shades(text, how, asked).forEach(([value, told], i) => {
      const word = make("span", text.tokens[i], `${value < 0 ? "n" : "p"}${i < text.first ? " given" : ""}`);
      word.style.setProperty("--x", Math.min(1, Math.abs(value)).toFixed(2));
      word.title = told;
      word.setAttribute("role", "button");
      word.setAttribute("aria-pressed", String(i === asked));
      word.tabIndex = i === asked || (asked === null && i === text.first) ? 0 : -1;
      word.dataset.index = i;
      place.append(word);
      if (text.tokens[i].endsWith("↵")) place.append(make("br"));
    });
    place.addEventListener("click", ({ target }) => {
      if (target.dataset.index) choose(Number(target.dataset.index));
    });
    place.addEventListener("keydown", (event) => {
      const now = Number(event.target.dataset.index);
      const last = text.tokens.length - 1;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(Math.max(0, Math.min(last, to)));
    });
    return place;
  }

  // The pattern of a head, drawn when it comes into view.
  let count = 0;
  function pattern(text, head) {
    const packed = unpack(text).patterns.get(head);
    const box = make("div", "", "pattern");
    if (!packed) {
      box.append(make("p", `The page holds no pattern of ${head} on this text.`, "hint"));
      return box;
    }
    const size = patternSize(packed);
    const slot = make("div");
    slot.id = `pattern-${++count}`;
    box.append(slot);
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `Attention pattern of ${head} on text ${text.key}, first ${size} tokens`);
    const seen = new IntersectionObserver((all) => {
      if (!all.some((one) => one.isIntersecting)) return;
      seen.disconnect();
      CircuitsVis.render(slot.id, CircuitsVis.AttentionPattern, {
        tokens: text.tokens.slice(0, size),
        attention: Array.from({ length: size }, (_, query) =>
          Array.from({ length: size }, (_, key) => Math.round(1000 * weight(packed, query, key)) / 1000),
        ),
        minValue: -1,
        maxValue: 1,
        positiveColor: "#0b5a9e",
        negativeColor: "#b8530a",
        upperTriColor: "#ffffff",
        zoomed: false,
      });
    });
    seen.observe(box);
    return box;
  }
  return { unpack, tokens, pattern };
})();

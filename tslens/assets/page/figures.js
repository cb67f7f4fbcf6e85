"use strict";
// What cards are made of: elements, numbers with a true minus sign, dots on one axis.
window.figures = (() => {
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const minus = (text) => text.replace("-", "−");
  const change = (figure) => minus((figure > 0 ? "+" : "") + figure.toFixed(3));

  // Lines of a dot chart on one axis: [name, kind, value, low, high, hollow]; low, high and hollow may be missing.
  function chart(lines, [from, to], shown, unit, title) {
    const box = make("div", "", "dots");
    const place = (value) => `${(100 * (Math.min(to, Math.max(from, value)) - from)) / (to - from)}%`;
    for (const [name, kind, value, low, high, hollow] of lines) {
      const track = make("span", "", `track ${kind}`);
      track.style.setProperty("--zero", place(0));
      const dot = (at, style) => {
        const mark = make("i", "", style);
        mark.style.left = place(at);
        track.append(mark);
      };
      if (low !== undefined) {
        const whisker = make("i", "", "whisker");
        whisker.style.left = place(low);
        whisker.style.width = `calc(${place(high)} - ${place(low)})`;
        track.append(whisker);
      }
      if (hollow !== undefined) dot(hollow, "dot hollow");
      dot(value, "dot");
      const figure = make("span", shown(value), "figure");
      if (hollow !== undefined) figure.append(make("small", ` ${shown(hollow)}`));
      box.append(make("span", name, "name"), track, figure);
    }
    const axis = make("span", "", "axis");
    const short = (value) => minus(String(Number(value.toPrecision(2))));
    axis.append(make("span", short(from)), make("span", unit), make("span", short(to)));
    box.append(make("span"), axis, make("span"));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", title);
    return box;
  }
  const roundUp = (value, steps) => steps.find((step) => value <= step) ?? steps.at(-1);

  return { make, minus, change, chart, roundUp };
})();

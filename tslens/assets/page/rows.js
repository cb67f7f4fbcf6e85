"use strict";
// The card of the chosen head: what it says of each probe, with figures as dots on one axis, and its distance profile.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { make, minus, change, chart, roundUp } = window.figures;
  const marks = { role: "◆", candidate: "●", unclear: "○" };
  const effects = [
    ["edge", "this attention, beyond like attention"],
    ["full", "all of this attention"],
    ["zero", "whole head: zeros for it"],
    ["mean", "whole head: its mean for it"],
    ["resample", "whole head: another story’s for it"],
  ];

  function attention(row) {
    const [value, low, high] = row.value;
    const lines = [["this head", "value", value, low, high]];
    if (row.lexical !== undefined) lines.push(["token identities and distance alone", "lexical", row.lexical]);
    lines.push(...row.nulls.filter(([, figure]) => figure !== null).map(([name, figure]) => [`null: ${name}`, "null", figure]));
    const top = roundUp(Math.max(...lines.map((line) => line[4] ?? line[2])), [0.1, 0.2, 0.3, 0.5, 0.75, 1]);
    return chart(lines, [0, top], (figure) => figure.toFixed(2), "attention", "Attention of this head, and what simpler things would give");
  }

  function causes(row) {
    const known = effects.filter(([name]) => typeof row.cause[name] === "number");
    if (!known.length) return [];
    const lines = known.map(([name, words]) => {
      const value = row.cause[name];
      const low = name === "edge" ? row.cause.edge_low : undefined;
      const whisker = typeof low === "number" ? [Math.min(low, value), value] : [undefined, undefined];
      return [words, name === "edge" ? "edge" : "ablation", value, ...whisker, row.cause[`${name}_beyond`]];
    });
    const all = lines.flatMap(([, , value, low, , hollow]) => [value, low ?? 0, hollow ?? 0]);
    const [least, most] = [Math.min(0, ...all), Math.max(0, ...all)];
    const margin = 0.04 * (most - least || 1);
    const range = [least < 0 ? least - margin : 0, most + margin];
    const note = "What it costs to take away, nats a token where it should help. Hollow mark, second figure: beyond the cost at like tokens.";
    return [make("p", note, "hint"), chart(lines, range, change, "nats", note)];
  }

  function drawRow(row, open, floor) {
    const line = make("details", "", `says ${row.status}`);
    line.open = open;
    const top = make("summary");
    top.append(make("b", `${marks[row.status]} ${row.status}: ${row.place}`, row.status), row.at ? ` ${row.at}` : "");
    top.append(make("small", ` ${row.value[0].toFixed(2)} against ${Math.max(0, ...row.nulls.map((one) => one[1])).toFixed(2)}`));
    const low = `Lower end of the excess, corrected: ${minus(row.excess_low.toFixed(3))} (floor ${floor}).`;
    line.append(top, make("p", row.found), attention(row), make("p", low, "hint"));
    const [reason, ...rest] = row.why;
    if (reason) line.append(make("p", reason, "reason"));
    if (rest.length) line.append(make("p", rest.join(" ")));
    if (row.cause) line.append(...causes(row));
    return line;
  }

  // All that is said of a head, as elements; other pages draw it as well.
  function says(head, floor) {
    const rows = head.says ?? [];
    const open = Math.max(1, Math.min(2, rows.filter((row) => row.status === "role").length));
    const lines = rows.map((row, index) => drawRow(row, index < open, floor));
    if (head.not) lines.push(make("p", `Not beyond its nulls: ${head.not}.`, "hint"));
    return lines;
  }
  window.headCard = { says };

  function drawProfile(head) {
    const values = head.profile ?? [];
    const place = document.getElementById("profile");
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
    place.append(
      make("h3", "How far back it looks"),
      make("p", "Mean attention by distance in tokens; 0 is the token itself.", "hint"),
      svg,
      profileTable(values),
    );
  }

  function profileTable(values) {
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
    return numbers;
  }

  document.addEventListener("head", ({ detail }) => {
    document.getElementById("says").replaceChildren(...says(data.heads[detail], data.floor));
    drawProfile(data.heads[detail]);
  });
})();

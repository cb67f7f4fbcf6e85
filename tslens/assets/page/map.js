"use strict";
// The capability map: tables sort by any column, rows are filtered, capabilities open their readouts, components all that
// was measured of them, and a field chooses the readout that is drawn or listed.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { make, minus, chart } = window.figures;
  const marks = { carries: "◆", candidate: "●", general: "≈", unclear: "○", no: "" };
  const byId = (id) => document.getElementById(id);
  for (const form of document.querySelectorAll(".fields")) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // Sorting. A cell is sorted by data-v, else by its text: as a number where that begins with one. Dashes go last.
  function key(cell) {
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return isNaN(number) ? text : number;
  }
  function compare(x, y, sign) {
    if (x === null || y === null) return (x === null) - (y === null);
    const both = typeof x === "number" && typeof y === "number";
    return sign * (both ? x - y : String(x).localeCompare(String(y)));
  }
  function makeSortable(table) {
    const lines = [...table.tHead.rows];
    const below = lines.at(-1).cells.length;
    const firsts = lines.length > 1 ? [...lines[0].cells].filter((cell) => cell.rowSpan > 1) : [];
    const columns = [...firsts, ...lines.at(-1).cells];
    const sortable = columns.filter((head) => head.hasAttribute("aria-sort"));
    const sortBy = (head) => {
      const first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of sortable) each.setAttribute("aria-sort", each === head ? order : "none");
      const column = columns.indexOf(head);
      const sign = order === "ascending" ? 1 : -1;
      close();
      const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
      rows.sort(([x], [y]) => compare(x, y, sign));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
    for (const head of sortable) head.querySelector("button").addEventListener("click", () => sortBy(head));
    return { columns, below };
  }

  // A field that shows what is of one measure.
  for (const field of document.querySelectorAll(".shows")) {
    const place = byId(field.dataset.rows);
    const show = () => {
      for (const part of place.querySelectorAll("[data-measure]")) {
        part.hidden = field.value !== "" && part.dataset.measure !== field.value;
      }
      place.classList.add("chosen");
    };
    field.addEventListener("input", show);
    show();
  }

  // An opened component.
  let opened = null;
  function close() {
    opened?.previousElementSibling.querySelector("button").setAttribute("aria-expanded", "false");
    opened?.remove();
    opened = null;
  }
  function figures(measures, unit) {
    const own = measures.filter((one) => one.unit === unit);
    if (!own.length) return [];
    const all = own.flatMap((one) => [...one.share, one.expected ?? 0]);
    const shown = unit === "share" ? (value) => minus(`${Math.round(100 * value) || 0}%`) : (value) => minus(value.toFixed(2));
    const lines = own.map((one) => {
      const [value, low, high] = one.share;
      const name = `${marks[one.status]} ${one.name}${one.evidence === "grade" ? ", graded" : ""}`;
      const kind = one.status === "carries" || one.status === "candidate" ? "value" : "lexical";
      return [name, kind, value, low, high, one.expected ?? undefined];
    });
    const what = unit === "share" ? "share lost" : "points lost";
    return [chart(lines, [Math.min(0, ...all), Math.max(0.05, ...all)], shown, what, `${what}, by measure`)];
  }
  function describe(name, found) {
    const box = make("div");
    const head = make("h3", name);
    const many = found.n > 1 ? `, ${found.n} components` : "";
    head.append(make("small", `${found.kind}${many}`));
    const note = "Corrected intervals. Hollow mark, second figure: random components of like cost.";
    const list = make("ul");
    for (const one of found.measures) {
      const line = make("li");
      const by = one.evidence === "grade" ? "graded" : `readout of ${one.of}`;
      line.append(make("b", `${marks[one.status]} ${one.name} (${by}), ${one.status}`.trim()), `: ${one.says}.`);
      list.append(line);
    }
    box.append(head, make("p", note, "hint"), ...figures(found.measures, "share"), ...figures(found.measures, "points"), list);
    return box;
  }
  function open(row) {
    close();
    opened = make("tr", "", "opened");
    const cell = make("td");
    cell.colSpan = row.cells.length;
    cell.append(describe(row.querySelector("button").textContent, data.components[row.dataset.name]));
    opened.append(cell);
    row.after(opened);
    row.querySelector("button").setAttribute("aria-expanded", "true");
  }

  const sorted = new Map([...document.querySelectorAll(".sorts")].map((table) => [table.id, makeSortable(table)]));
  const matrix = byId("matrix");
  if (!matrix) return;
  const { columns } = sorted.get("matrix");
  const rows = [...matrix.tBodies[0].rows];

  matrix.tBodies[0].addEventListener("click", ({ target }) => {
    const row = target.closest("tr");
    if (!row.dataset.name) return;
    const isOpen = opened?.previousElementSibling === row;
    if (isOpen) close();
    else open(row);
    history.replaceState(null, "", isOpen ? "#" : `#${encodeURIComponent(row.dataset.name)}`);
  });
  function asked() {
    let name = "";
    try {
      name = decodeURIComponent(location.hash.slice(1));
    } catch {
      return; // no address at all
    }
    const row = rows.find((one) => one.dataset.name === name);
    if (row) open(row);
    row?.scrollIntoView({ block: "nearest" });
  }

  // The readouts of a capability, one by one.
  for (const group of matrix.querySelectorAll("[data-of].group")) {
    const button = group.querySelector(".opens");
    if (!button) continue;
    const own = columns.filter((head) => head.dataset.of === group.dataset.of);
    const toggle = (isOpen) => {
      close();
      for (const head of own.filter((one) => "single" in one.dataset)) {
        const column = columns.indexOf(head);
        head.hidden = !isOpen;
        for (const row of rows) row.cells[column].hidden = !isOpen;
      }
      group.colSpan = own.filter((head) => !head.hidden).length;
      button.setAttribute("aria-expanded", String(isOpen));
    };
    button.hidden = false;
    button.addEventListener("click", () => toggle(button.getAttribute("aria-expanded") !== "true"));
    toggle(false);
  }

  // Fields.
  const form = byId("asked");
  function filter() {
    close();
    const { kind, status, name, differs } = form.elements;
    const wanted = name.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const own = row.dataset.status.split(" ");
      const has = status.value === "no" ? row.dataset.status === "no" : !status.value || own.includes(status.value);
      const named = `${row.dataset.name} ${row.cells[0].textContent}`.toLowerCase().includes(wanted);
      const fits = !kind.value || row.dataset.kind === kind.value;
      row.hidden = !(has && named && fits && (!differs?.checked || "differs" in row.dataset));
      shown += !row.hidden;
    }
    byId("found").textContent = `${shown} of ${rows.length} rows`;
  }
  form.addEventListener("input", filter);

  // Say so where the table is wider than its box.
  const box = matrix.parentElement;
  new ResizeObserver(() => {
    const wide = box.scrollWidth > box.clientWidth;
    box.classList.toggle("wide", wide);
    byId("sideways").hidden = !wide;
  }).observe(box);
  addEventListener("hashchange", asked);
  asked();
})();

"use strict";
// Sort and filter the table of measurements; its rows stand in the page already.
(() => {
  const table = document.getElementById("scores");
  const form = document.getElementById("filters");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const statuses = ["role", "candidate", "unclear", "no"];
  const kinds = ["head", "words", "words", "figure", "figure", "figure", "figure", "figure", "status", "words", "figure"];

  // What a cell is sorted by; empty where there is nothing.
  function key(row, column) {
    const text = row.cells[column].textContent.trim();
    if (text === "–") return "";
    if (kinds[column] === "words") return text;
    if (kinds[column] === "status") return statuses.indexOf(row.cells[column].firstChild.className);
    if (kinds[column] === "figure") return parseFloat(text.replace("−", "-").replace("<", ""));
    const [layer, index] = text.match(/\d+/g).map(Number);
    return 1000 * layer + index;
  }

  function sortBy(column) {
    const head = heads[column];
    const first = head.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of heads) each.setAttribute("aria-sort", each === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (x - y || (isNaN(x) ? x.localeCompare(y) : 0));
    };
    body.append(...rows.toSorted(compare));
  }
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => sortBy(column)));

  function filter() {
    const probe = form.elements.probe.value;
    const status = form.elements.status.value;
    const head = form.elements.head.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const [name, kind] = [row.cells[0].textContent.toLowerCase(), row.cells[8].firstChild.className];
      const hit = name.startsWith(head) || (/^h\d+$/.test(head) && name.endsWith(head));
      row.hidden = !hit || (status && kind !== status) || (probe && row.cells[1].textContent !== probe);
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} rows`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
})();

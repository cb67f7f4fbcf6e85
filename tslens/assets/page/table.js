"use strict";
// Sort and filter a table whose rows stand in the page already. A column says by data-kind what it is sorted by; a field
// of the form says by data-column what it filters, and by data-match how.
(() => {
  const table = document.getElementById("scores");
  const form = document.getElementById("filters");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const statuses = ["role", "candidate", "unclear", "no"];

  // What a cell is sorted by; empty where there is nothing.
  function key(row, column) {
    const text = row.cells[column].textContent.trim();
    const kind = heads[column].dataset.kind;
    if (text === "–") return "";
    if (kind === "words") return text;
    if (kind === "status") return statuses.indexOf(row.cells[column].firstChild.className);
    if (kind === "figure") return parseFloat(text.replace("−", "-").replace("<", ""));
    const [layer, index] = text.match(/\d+/g).map(Number);
    return 1e5 * layer + index;
  }

  function sortBy(column) {
    const head = heads[column];
    const first = head.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of heads) each.setAttribute("aria-sort", each === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, key(row, column)]));
    const compare = (a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (x - y || (isNaN(x) ? x.localeCompare(y) : 0));
    };
    body.append(...rows.toSorted(compare));
  }
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => sortBy(column)));

  const matches = {
    exact: (cell, wanted) => cell.textContent === wanted,
    status: (cell, wanted) => cell.firstChild.className === wanted,
    contains: (cell, wanted) => cell.textContent.toLowerCase().includes(wanted),
    component: (cell, wanted) => {
      const name = cell.textContent.toLowerCase();
      return name.startsWith(wanted) || (/^[hn]\d+$/.test(wanted) && name.endsWith(wanted));
    },
  };
  function filter() {
    const asked = [...form.elements].filter((field) => field.dataset.match && field.value.trim());
    const tests = asked.map((field) => {
      const { match, column } = field.dataset;
      const wanted = field.tagName === "SELECT" ? field.value : field.value.trim().toLowerCase();
      return (row) => matches[match](row.cells[column], wanted);
    });
    let shown = 0;
    for (const row of rows) {
      row.hidden = !tests.every((test) => test(row));
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} rows`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
})();

"use strict";
// The report: which model and part is shown (by the address), search over everything, keys, tables that sort.
(() => {
  const { make } = window.figures;
  const byId = (id) => document.getElementById(id);
  const held = new Map([...document.querySelectorAll("script.model")].map((place) => [place.dataset.name, place]));
  const opened = new Map();

  // A model is read when it is first asked for.
  function model(name) {
    if (!opened.has(name) && held.has(name)) opened.set(name, JSON.parse(held.get(name).textContent));
    return opened.get(name);
  }
  const address = (...places) => `#${["m", ...places].map((place) => encodeURIComponent(place)).join("/")}`;
  function link(text, ...places) {
    const found = make("a", text);
    found.href = address(...places);
    return found;
  }

  // Tables whose rows stand in the page: a cell is sorted as a number where it begins with one. Dashes go last.
  const key = (cell) => {
    const text = (cell.dataset.v ?? cell.textContent).trim();
    if (text === "" || text === "–") return null;
    const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return isNaN(number) ? text : number;
  };
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button")?.addEventListener("click", () => {
        const first = head.dataset.first ?? "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", each === head ? order : "none");
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
        rows.sort(([x], [y]) => {
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
        });
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
  window.report = { model, address, link, sortable, byId };
  for (const table of document.querySelectorAll(".sorts")) sortable(table);

  // What is shown. Addresses: #m/MODEL/TAB/WHAT/...; anything else is the first sight.
  const tabs = { heads: "Heads", neurons: "Neurons", map: "What parts carry", texts: "Texts", origin: "Where this comes from" };
  function places() {
    const parts = location.hash.slice(1).split("/");
    try {
      return parts.map(decodeURIComponent);
    } catch {
      return [];
    }
  }
  function route() {
    const [kind, name, tab, ...rest] = places();
    const data = kind === "m" ? model(name) : undefined;
    byId("view").hidden = !data;
    byId("overview").hidden = Boolean(data);
    document.body.classList.toggle("inside", Boolean(data));
    byId("lost").hidden = kind !== "m" || Boolean(data);
    if (!data) {
      if (kind) byId(kind)?.scrollIntoView();
      return;
    }
    const chosen = Object.hasOwn(tabs, tab ?? "") ? tab : window.drawPart.first(data);
    const back = make("a", "← all models");
    back.href = "#models";
    byId("way").replaceChildren(back);
    byId("who").replaceChildren(data.name, make("small", ` ${data.layers} ${data.layers === 1 ? "layer" : "layers"} of ${data.heads_of_layer} heads`));
    byId("tabs").replaceChildren(
      ...Object.entries(tabs).map(([id, title]) => {
        const one = link(title, data.name, id);
        if (id === chosen) one.setAttribute("aria-current", "page");
        return one;
      }),
    );
    byId("part").dataset.from = `${data.name}/${chosen === "origin" ? "model" : chosen}`;
    window.drawPart[chosen](data, byId("part"), rest);
    if (!rest.length) scrollTo(0, 0);
  }
  window.addEventListener("hashchange", route);

  // Search: names of models, heads, neurons and parts, roles, measures, words of texts.
  function entries() {
    const found = [];
    for (const name of held.keys()) {
      const data = model(name);
      found.push([name, "model", address(name)]);
      for (const [head, card] of Object.entries(data.heads ?? {})) {
        found.push([`${name} ${head}`, `looks at ${card.best.place}`, address(name, "heads", head), card.best.status]);
      }
      for (const one of data.neurons ?? []) {
        found.push([`${name} ${one.id}`, `${one.role}; raises ${one.raises.join(" ")}`, address(name, "neurons", one.id), one.status]);
      }
      for (const [component, of] of Object.entries(data.map?.components ?? {})) {
        const carried = of.measures.filter((one) => one.status === "carries").map((one) => one.name);
        if (carried.length) found.push([`${name} ${component}`, `carries ${carried.join(", ")}`, address(name, "map", component), "role"]);
      }
      data.texts.forEach((text, i) => found.push([`${name} text ${text.key}`, text.tokens.slice(1).join(""), address(name, "texts", i)]));
    }
    return found;
  }
  let all = null;
  const rank = { role: 0, candidate: 1, unclear: 2, no: 3 };
  function search() {
    const asked = byId("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const results = byId("results");
    results.hidden = !asked.length;
    if (!asked.length) return;
    all ??= entries();
    const hits = all.filter(([name, what, , status = ""]) => asked.every((word) => `${name} ${what} ${status}`.toLowerCase().includes(word)));
    hits.sort((a, b) => (rank[a[3]] ?? 0) - (rank[b[3]] ?? 0));
    const shown = hits.slice(0, 40).map(([name, what, where]) => {
      const line = make("li");
      const place = make("a", name);
      place.href = where;
      const at = Math.max(0, what.toLowerCase().indexOf(asked.at(-1)) - 30);
      line.append(place, make("small", ` ${at ? "…" : ""}${what.slice(at, at + 90)}`));
      return line;
    });
    if (hits.length > 40) shown.push(make("li", `${hits.length - 40} more: say more words`, "hint"));
    if (!hits.length) shown.push(make("li", "nothing of that name", "hint"));
    results.replaceChildren(...shown);
  }
  byId("search").addEventListener("input", search);
  byId("search").addEventListener("keydown", (event) => {
    const first = byId("results").hidden ? null : byId("results").querySelector("a");
    if (event.key === "Enter" && first) first.click();
    if (event.key === "ArrowDown" && first) first.focus();
    if (event.key === "ArrowDown") event.preventDefault();
  });
  byId("results").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const links = [...byId("results").querySelectorAll("a")];
    (links[links.indexOf(event.target) + by] ?? byId("search")).focus();
  });
  byId("results").addEventListener("click", ({ target }) => {
    if (target.closest("a")) byId("results").hidden = true;
  });

  // Keys: / search; j and k the next and the previous of what is listed; Escape back.
  function step(by) {
    const [, name, tab, what, ...how] = places();
    const texts = model(name)?.texts ?? [];
    if (tab === "texts" && texts[what]) {
      const to = Math.max(0, Math.min(texts.length - 1, Number(what) + by));
      location.hash = address(name, "texts", to, ...how.slice(0, 1));
      return;
    }
    const listed = [...document.querySelectorAll("#view:not([hidden]) [data-listed]")].filter((one) => one.offsetParent);
    if (!listed.length) return;
    const now = listed.findIndex((one) => one.getAttribute("aria-current") === "true");
    const next = listed[Math.max(0, Math.min(listed.length - 1, now + by))];
    location.hash = next.hash;
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (typing) {
        byId("results").hidden = true;
        event.target.blur();
      } else if (location.hash.startsWith("#m/")) {
        const [, name, tab, what] = places();
        location.hash = what ? address(name, tab) : tab ? address(name) : "#models";
      }
    } else if (typing) {
      return;
    } else if (event.key === "/") {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "j" || event.key === "k") {
      step(event.key === "j" ? 1 : -1);
    }
  });
  byId("go").hidden = false;
  route();
})();

"use strict";
// The parts of one model: heads, neurons, what parts carry, texts, and where it all comes from. Each is drawn when its
// tab is chosen: draw(data, place, rest of the address).
window.drawPart = (() => {
  const { make, minus, chart } = window.figures;
  const { unpack, tokens, pattern } = window.texts;
  const marks = { role: "◆", candidate: "●", carries: "◆", general: "≈", unclear: "○", no: "", hinders: "−" };
  const link = (...all) => window.report.link(...all);
  const listed = (element, chosen) => {
    element.dataset.listed = "";
    if (chosen) element.setAttribute("aria-current", "true");
    return element;
  };
  const percent = (share) => minus(`${Math.round(100 * share)}%`);
  const signed = (value) => `${value > 0 ? "+" : ""}${minus(value.toFixed(2))}`;
  const absent = (data, what, command) =>
    make("p", `${what} of ${data.name} were not measured when this page was made. ${command} --model ${data.name} measures them.`, "says");
  const from = (element, data, part) => {
    element.dataset.from = `${data.name}/${part}`;
    return element;
  };
  const isHead = (name) => /^L\d+H\d+$/.test(name);

  function table(headings, rows, name = "") {
    const box = make("div", "", "box");
    const found = make("table", "", `plain ${name}`);
    const line = make("tr");
    for (const [text, first] of headings) {
      const head = make("th");
      head.scope = "col";
      if (first) {
        head.setAttribute("aria-sort", "none");
        head.dataset.first = first;
        const button = make("button", text);
        button.type = "button";
        head.append(button);
      } else head.textContent = text;
      line.append(head);
    }
    const top = make("thead");
    top.append(line);
    const body = make("tbody");
    body.append(...rows);
    found.append(top, body);
    box.append(found);
    window.report.sortable(found);
    return box;
  }
  function cell(tag, ...inside) {
    const found = make(tag);
    found.append(...inside);
    return found;
  }
  function row(first, ...cells) {
    const found = make("tr");
    const head = cell("th", first);
    head.scope = "row";
    found.append(head, ...cells.map((one) => (one instanceof HTMLElement && one.tagName === "TD" ? one : cell("td", one))));
    return found;
  }
  function choice(label, options, change) {
    const field = make("label", `${label} `);
    const select = make("select");
    const groups = new Map();
    for (const [value, text, group] of options) {
      const option = make("option", text);
      option.value = value;
      if (group && !groups.has(group)) {
        groups.set(group, make("optgroup"));
        groups.get(group).label = group;
        select.append(groups.get(group));
      }
      (groups.get(group) ?? select).append(option);
    }
    select.addEventListener("input", () => change(select.value));
    field.append(select);
    return field;
  }
  const split = (left, right) => {
    const found = make("div", "", "split sides");
    found.append(left, right);
    return found;
  };

  // What a component carries, by the map.
  function carried(data, component) {
    const found = [];
    const surely = data.map?.components[component]?.measures.filter((one) => one.status !== "no") ?? [];
    const roles = Object.entries(data.map?.members ?? {}).filter(([, members]) => members.includes(component));
    if (surely.length || roles.length) {
      found.push(make("h3", "What it carries"));
      const list = from(make("ul"), data, "map");
      for (const one of surely) {
        const line = make("li");
        const told = one.unit === "share" ? percent(one.share[0]) : `${one.share[0].toFixed(2)} points`;
        line.append(link(`${marks[one.status]} ${one.name}`, data.name, "map", component), ` ${told}, ${one.status}${one.evidence === "grade" ? ", by grades" : ""}`);
        list.append(line);
      }
      for (const [name] of roles) {
        const line = make("li", "one of ");
        line.append(link(name.replace(":", ": ").replaceAll("_", " "), data.name, "map", name));
        list.append(line);
      }
      found.push(list);
    }
    return found;
  }
  // The texts that it changes most.
  function changed(data, component) {
    const found = [];
    const sums = data.texts.map((text, i) => [unpack(text).total(component), i]).filter(([sum]) => sum > 0);
    sums.sort(([a], [b]) => b - a);
    if (sums.length) {
      found.push(make("h3", "Texts that it changes most"));
      const list = from(make("ol"), data, "texts");
      for (const [sum, i] of sums.slice(0, 4)) {
        const text = data.texts[i];
        const line = make("li");
        line.append(link(`text ${text.key}`, data.name, "texts", i, `change ${component}`), make("small", ` ${sum.toFixed(1)} nats in all`));
        list.append(line);
      }
      found.push(list);
    }
    return found;
  }

  // Heads: all of them as tiles by layer, and the card of the chosen one.
  let wanted = "";
  function heads(data, place, [chosen]) {
    if (!data.heads) {
      place.replaceChildren(absent(data, "Roles of heads", "tslens heads"));
      return;
    }
    const names = Object.keys(data.heads).sort((a, b) => compareNames(a, b));
    const best = Object.entries(data.heads).find(([, card]) => card.best.status === "role") ?? Object.entries(data.heads)[0];
    const now = data.heads[chosen] ? chosen : best[0];
    const probes = [...new Set(Object.values(data.heads).filter((card) => card.best.status !== "no").map((card) => card.best.probe))].sort();
    const grid = make("div", "", "tiles");
    const draw = () => {
      grid.replaceChildren();
      let layer = -1;
      for (const name of names) {
        const card = data.heads[name];
        const of = Number(name.match(/\d+/)[0]);
        if (of !== layer) grid.append(make("h3", `Layer ${(layer = of)}`));
        const { status, place: looks, excess, probe } = card.best;
        const tile = listed(link(name, data.name, "heads", name), name === now);
        tile.classList.add(status === "role" || status === "candidate" ? "p" : "quiet", "tile");
        tile.style.setProperty("--x", Math.min(1, Math.max(0, excess)).toFixed(2));
        tile.hidden = wanted !== "" && probe !== wanted;
        tile.append(make("span", status === "no" ? "nothing beyond its nulls" : `${marks[status]} ${looks}`));
        grid.append(tile);
      }
    };
    const field = choice("looks at", [["", "anything"], ...probes.map((one) => [one, one])], (value) => {
      wanted = value;
      draw();
    });
    if (probes.includes(wanted)) field.querySelector("select").value = wanted;
    else wanted = "";
    draw();
    const left = make("div");
    left.append(field, make("p", "Colour: how much more it attends to this than the largest null would give.", "hint"), grid);
    const card = make("article", "", "card");
    const title = make("h2", now);
    title.append(make("small", ` ${data.name}`));
    const said = window.headCard.says(data.heads[now], data.floor);
    card.append(title, ...carried(data, now), make("h3", "What it looks at"), ...said, ...changed(data, now));
    const i = data.texts.findIndex((text) => text.patterns[now]);
    if (i >= 0) {
      card.append(make("h3", `On text ${data.texts[i].key}`), make("p", "A row for each token that looks, a column for each that is looked at.", "hint"));
      card.append(from(pattern(data.texts[i], now), data, "texts"), link("Read the text with this head", data.name, "texts", i, `head ${now}`));
    }
    place.replaceChildren(split(left, card));
    follow(chosen, card);
  }
  function compareNames(a, b) {
    const [x, y] = [a.match(/\d+/g).map(Number), b.match(/\d+/g).map(Number)];
    return x[0] - y[0] || x[1] - y[1];
  }
  // On a narrow screen the card stands below: go there when something was chosen.
  function follow(chosen, card) {
    if (chosen && card.getBoundingClientRect().top > innerHeight * 0.7) card.scrollIntoView();
  }

  // Neurons: a table of those with a role, a candidate or an unclear one, drawn a hundred at a time.
  const asked = { role: "", status: "", words: "" };
  function neurons(data, place, [chosen]) {
    if (!data.neurons?.length) {
      place.replaceChildren(data.neurons ? make("p", "No neuron fires at a label beyond its nulls.", "says") : absent(data, "Roles of neurons", "tslens neurons"));
      return;
    }
    const now = data.neurons.find((one) => one.id === chosen) ?? data.neurons[0];
    const left = make("div");
    const count = make("output");
    const list = make("div");
    let shown = 100;
    const draw = () => {
      const fits = data.neurons.filter(
        (one) =>
          (!asked.role || one.role === asked.role) &&
          (!asked.status || one.status === asked.status) &&
          `${one.id} ${one.raises.join(" ")}`.toLowerCase().includes(asked.words),
      );
      count.textContent = `${fits.length} of ${data.neurons.length}`;
      const rows = fits.slice(0, shown).map((one) => {
        const name = listed(link(one.id, data.name, "neurons", one.id), one === now);
        const line = row(name, one.role, `${marks[one.status]} ${one.status}`, `${one.area[0].toFixed(2)} ≥ ${one.area[3].toFixed(2)}`, one.basis || "–", one.raises.slice(0, 3).join(" "));
        line.classList.toggle("chosen", one === now);
        return line;
      });
      const more = make("button", `${fits.length - shown} more`);
      more.type = "button";
      more.addEventListener("click", () => {
        shown += 400;
        draw();
      });
      const headings = [["neuron", "ascending"], ["fires at", "ascending"], ["status", "ascending"], ["area", "descending"], ["basis", "ascending"], ["raises", "ascending"]];
      list.replaceChildren(table(headings, rows, "neurons"), ...(fits.length > shown ? [more] : []));
    };
    const roles = [...new Set(data.neurons.map((one) => one.role))].sort();
    const fields = make("form", "", "fields");
    fields.addEventListener("submit", (event) => event.preventDefault());
    const words = make("label", "name or word ");
    const input = make("input");
    input.type = "search";
    input.size = 9;
    input.addEventListener("input", () => {
      asked.words = input.value.trim().toLowerCase();
      draw();
    });
    words.append(input);
    Object.assign(asked, { role: "", status: "", words: "" });
    fields.append(
      choice("fires at", [["", "anything"], ...roles.map((one) => [one, one])], (value) => ((asked.role = value), draw())),
      choice("status", [["", "any"], ["role", "role"], ["candidate", "candidate"], ["unclear", "unclear"]], (value) => ((asked.status = value), draw())),
      words,
      count,
    );
    draw();
    left.append(fields, list);
    const card = neuronCard(data, now);
    place.replaceChildren(split(left, card));
    follow(chosen, card);
  }
  const nullNames = { shifted: "null: labels moved", twins: "null: random neurons", tokens: "each word's mean alone", bigrams: "each pair's mean alone", positions: "each position's mean alone" };
  function neuronCard(data, one) {
    const card = make("article", "", "card");
    const title = make("h2", one.id);
    title.append(make("small", ` ${one.role} · ${marks[one.status]} ${one.status}`));
    card.append(title, ...(one.says ?? []).map((text, i) => make("p", text, i ? "hint" : "")));
    const lines = [["this neuron", "value", one.area[0], one.area[1], one.area[2]]];
    for (const [name, value] of Object.entries(one.nulls ?? {})) lines.push([nullNames[name] ?? name, name in { shifted: 0, twins: 0 } ? "null" : "lexical", value]);
    const least = Math.min(0.5, ...lines.map((line) => line[3] ?? line[2]));
    card.append(chart(lines, [Math.floor(10 * least) / 10, 1], (value) => value.toFixed(2), "area", "Area under the curve of the label"));
    if (one.cause) {
      const ways = ["its mean in its place", "zero in its place", "another token’s activation"];
      const costs = one.cause.map(([cost, beyond], i) => [ways[i], i ? "ablation" : "edge", cost, undefined, undefined, beyond]);
      const all = one.cause.flat();
      const note = "What it costs at the tokens of its label, nats. Hollow mark, second figure: beyond like tokens.";
      card.append(make("p", note, "hint"), chart(costs, [Math.min(0, ...all), Math.max(0.001, ...all)], (value) => minus(value.toFixed(3)), "nats", note));
    }
    const says = (title, list) => {
      const line = make("p", `${title} `, "tokens");
      for (const token of list) line.append(make("q", token.trim() || token), " ");
      return line;
    };
    card.append(make("h3", "What it writes"), says("raises", one.raises), ...(one.lowers ? [says("lowers", one.lowers)] : []));
    const fires = data.texts.map((text, i) => [unpack(text).activations.get(one.id)?.[0] ?? 0, i]).filter(([most]) => most > 0);
    fires.sort(([a], [b]) => b - a);
    if (fires.length) {
      card.append(make("h3", "Texts where it fires"));
      const list = from(make("ol"), data, "texts");
      for (const [most, i] of fires.slice(0, 4)) {
        const line = make("li");
        line.append(link(`text ${data.texts[i].key}`, data.name, "texts", i, `neuron ${one.id}`), make("small", ` up to ${most.toFixed(2)}`));
        list.append(line);
      }
      card.append(list);
    }
    return card;
  }

  // The map: a row for each component, two columns for each capability.
  function map(data, place, [chosen]) {
    if (!data.map) {
      place.replaceChildren(absent(data, "What parts carry", "tslens link"));
      return;
    }
    const { capabilities, graded, rows, components } = data.map;
    const headings = [["without", "ascending"], ["loss", "descending"]];
    for (const name of capabilities) {
      headings.push([name, "descending"]);
      if (graded) headings.push([`${name}, graded`, "descending"]);
    }
    const used = headings.map((_, i) => i < 2 || rows.some((one) => one[3][graded ? (i - 2) >> 1 : i - 2]?.[graded ? (i - 2) & 1 : 0]));
    const weight = ([, , , cells]) => Math.max(...cells.flat().map((one) => (one ? (one[2] === "carries" ? 10 : one[2] === "candidate" ? 5 : 0) + one[1] : -9)));
    const ordered = chosen || rows.length < 12 ? rows : [...rows].sort((a, b) => weight(b) - weight(a));
    const now = components[chosen] ? chosen : ordered[0]?.[0];
    const lines = ordered.map(([name, kind, cost, cells]) => {
      const title = listed(link(name.replace(":", ": ").replaceAll("_", " "), data.name, "map", name), name === now);
      const found = cells.flatMap((pair) => (graded ? pair : [pair[0]])).map((one) => {
        if (!one) return cell("td", "–");
        const [amount, share, status, told] = one;
        const shown = cell("td", `${status === "hinders" ? "" : marks[status]} ${amount}`.trim());
        shown.className = `${share < 0 ? "n" : "p"} ${status}`;
        shown.style.setProperty("--x", (status === "carries" || status === "candidate" ? Math.min(1, Math.abs(share)) : 0.12 * Math.min(1, Math.abs(share))).toFixed(2));
        shown.title = `${told}; ${status}`;
        shown.dataset.v = amount.replace("%", "");
        return shown;
      });
      const line = row(title, cost === null ? "–" : signed3(cost), ...found.filter((_, i) => used[i + 2]));
      line.querySelector("th").append(make("small", ` ${kind}`));
      line.classList.toggle("chosen", name === now);
      return line;
    });
    const passed = data.map.passed.map(([name, passes, accuracy]) => `${name} ${percent(accuracy)}${passes ? "" : " (not passed)"}`).join(", ");
    const left = make("div");
    left.append(make("p", "Share of a capability that is lost without a part; of a capability its strongest readout. Point at a figure for its corrected interval.", "hint"));
    left.append(table(headings.filter((_, i) => used[i]), lines, "map"), make("p", `Readouts, share of the pairs that are right: ${passed}.`, "hint"));
    if (!now) {
      place.replaceChildren(make("p", "The model passes no readout, so nothing is said about its parts.", "says"), left);
      return;
    }
    const card = make("article", "", "card");
    const of = components[now];
    const title = make("h2", now.replace(":", ": ").replaceAll("_", " "));
    title.append(make("small", ` ${of.kind}${of.n > 1 ? `, ${of.n} components` : ""}`));
    card.append(title, make("p", "Corrected 95% intervals. Hollow mark, second figure: random components of like cost.", "hint"));
    for (const unit of ["share", "points"]) {
      const own = of.measures.filter((one) => one.unit === unit);
      if (!own.length) continue;
      const all = own.flatMap((one) => [...one.share, one.expected ?? 0]);
      const shown = unit === "share" ? percent : (value) => minus(value.toFixed(2));
      card.append(
        chart(
          own.map((one) => [`${marks[one.status]} ${one.name}${one.evidence === "grade" ? ", graded" : ""}`, one.status === "carries" || one.status === "candidate" ? "value" : "lexical", ...one.share, one.expected ?? undefined]),
          [Math.min(0, ...all), Math.max(0.05, ...all)],
          shown,
          "",
          `${unit} lost, by measure`,
        ),
      );
    }
    const sentences = make("details");
    const list = make("ul");
    for (const one of of.measures) list.append(cell("li", make("b", `${marks[one.status]} ${one.name}, ${one.status}`.trim()), `: ${one.says}.`));
    sentences.append(make("summary", "In words"), list);
    card.append(sentences);
    const members = data.map.members[now];
    if (members?.length) {
      const line = make("p", "It is ");
      members.forEach((name, i) => line.append(i ? ", " : "", isHead(name) ? link(name, data.name, "heads", name) : link(name, data.name, "neurons", name)));
      card.append(line);
    }
    if (isHead(now) && data.heads) card.append(cell("p", link(`What ${now} looks at`, data.name, "heads", now)));
    card.append(...changed(data, now));
    place.replaceChildren(split(left, card));
    follow(chosen, card);
  }
  const signed3 = (value) => `${value > 0 ? "+" : ""}${minus(value.toFixed(3))}`;

  // Texts: the list, and the reader.
  function textsTab(data, place, [chosen, how = "loss", token]) {
    if (!data.texts.length) {
      place.replaceChildren(make("p", "No text was read when this page was made (--texts 0).", "says"));
      return;
    }
    const i = data.texts[chosen] ? Number(chosen) : null;
    if (i === null) list(data, place);
    else read(data, place, i, how, token === undefined ? null : Number(token));
  }
  const criteria = ["consistency", "grammar", "creativity", "plot"];
  function list(data, place) {
    const graded = data.texts.some((text) => text.grades);
    const rows = data.texts.map((text, i) => {
      const mean = text.losses.slice(text.first).reduce((sum, loss) => sum + loss, 0) / Math.max(1, text.tokens.length - text.first);
      const words = text.tokens.slice(text.first, text.first + 22).join("");
      const figures = graded ? criteria.map((name) => from(cell("td", text.grades?.[name].toFixed(1) ?? "–"), data, "grades")) : [];
      return row(listed(link(text.key, data.name, "texts", i)), ...figures, mean.toFixed(2), `${words.trim()} …`);
    });
    const headings = [["text", "ascending"], ...(graded ? criteria.map((name) => [name, "ascending"]) : []), ["nats a token", "descending"], ["how it goes on", null]];
    const note = graded
      ? `${data.texts.length} of ${data.n_graded} texts, graded by ${data.judge === "local" ? "the local judge" : data.judge}: of each grade a low one, of all the best and the middle. Choose one to read it token by token.`
      : "Nothing was graded: these were written for this page. Choose one to read it token by token.";
    place.replaceChildren(make("p", note, "hint"), table(headings, rows, "list"));
  }
  function read(data, place, i, how, token) {
    const text = data.texts[i];
    const numbers = unpack(text);
    const heads = [...numbers.patterns.keys()].sort(compareNames);
    const fired = [...numbers.activations.keys()];
    const known = how === "loss" || (how.startsWith("change ") && text.components.includes(how.slice(7))) || (how.startsWith("head ") && heads.includes(how.slice(5))) || (how.startsWith("neuron ") && fired.includes(how.slice(7)));
    const shown = known ? how : "loss";
    const asked = token !== null && token >= 0 && token < text.tokens.length ? token : null;
    const go = (way, at) => (location.hash = window.report.address(data.name, "texts", i, way, ...(at === null ? [] : [at])));

    const top = make("div", "", "bar");
    const back = link("← all texts", data.name, "texts");
    const grades = from(make("p", "", "grades"), data, "grades");
    for (const [name, value] of Object.entries(text.grades ?? {})) {
      const ends = text.intervals?.[name];
      grades.append(make("b", `${name} ${value.toFixed(1)}`), ends ? make("small", ` ${ends[0]} to ${ends[1]}  `) : "  ");
    }
    if (text.ungraded) grades.append(make("small", `no grade: ${text.ungraded}`));
    top.append(back, grades);

    const options = [["loss", "what each token costs"]];
    for (const name of text.components) options.push([`change ${name}`, `change without ${name}`, "what changes without a part"]);
    for (const name of heads) options.push([`head ${name}`, `where ${name} looks`, "where a head looks"]);
    for (const name of fired) options.push([`neuron ${name}`, `where ${name} fires`, "where a neuron fires"]);
    const field = choice("colour", options, (way) => go(way, asked));
    field.querySelector("select").value = shown;
    const looking = shown.startsWith("head ") ? (asked ?? text.tokens.length - 1) : asked;
    const words = tokens(text, shown, looking, (at) => go(shown, at));
    const left = make("div");
    left.append(top, field, make("p", "Slanted: what the model was given. Blue: more, orange: less. Choose a token to see what changes it.", "hint"), words);
    if (text.of > text.tokens.length) left.append(make("p", `… cut at ${text.tokens.length} of ${text.of} tokens; the grade is of the whole text.`, "hint"));
    if (text.assessment) left.append(make("h3", "What the judge wrote"), make("p", text.assessment));

    const card = make("article", "", "card");
    if (asked === null || asked === 0) {
      card.append(make("h2", "The parts that change this text most"), make("p", "Sum of the changes over the tokens that the model wrote, each part's mean in its place.", "hint"));
      const totals = text.components.map((name) => [numbers.total(name), name]).sort(([a], [b]) => b - a);
      card.append(...bars(data, i, totals, asked));
    } else {
      const title = make("h2");
      title.append(make("q", text.tokens[asked].trim() || text.tokens[asked]), make("small", ` token ${asked}: ${text.losses[asked]?.toFixed(2)} nats`));
      card.append(title, make("p", "How many nats more it costs without each part, the largest changes first; one text, no null.", "hint"));
      const changes = text.components.map((name) => [numbers.change(name, asked), name]).sort(([a], [b]) => Math.abs(b) - Math.abs(a));
      card.append(...bars(data, i, changes, asked));
    }
    const head = shown.startsWith("head ") ? shown.slice(5) : shown.startsWith("change ") && numbers.patterns.has(shown.slice(7)) ? shown.slice(7) : null;
    if (head) card.append(make("h3", `The pattern of ${head}`), pattern(text, head));
    place.replaceChildren(split(left, card));
    if (asked !== null) words.querySelector("[aria-pressed=true]")?.focus({ preventScroll: true });
  }
  // The first heads, and whole attentions and MLPs apart: beside these no head could be seen.
  function bars(data, i, found, asked) {
    const heads = found.filter(([, name]) => isHead(name)).slice(0, 8);
    const halves = found.filter(([, name]) => !isHead(name)).slice(0, 4);
    return [barsOf(data, i, heads, asked), make("h3", "Whole attention and MLP of a layer"), barsOf(data, i, halves, asked)];
  }
  // Components with their changes: each leads to its card, its figure to the text coloured by it.
  function barsOf(data, i, found, asked) {
    const most = Math.max(0.01, ...found.map(([value]) => Math.abs(value)));
    const list = make("ol", "", "bars");
    for (const [value, name] of found) {
      const line = make("li");
      const where = isHead(name) ? link(name, data.name, "heads", name) : link(name, data.name, "map", name);
      const best = data.heads?.[name]?.best;
      const told = best && best.status !== "no" ? ` ${marks[best.status]} ${best.place}` : "";
      const bar = make("span", "", value < 0 ? "bar-less" : "bar-more");
      bar.style.width = `${((100 * Math.abs(value)) / most).toFixed(1)}%`;
      const shade = link(signed(value), data.name, "texts", i, `change ${name}`, ...(asked === null ? [] : [asked]));
      shade.title = `colour the text by the change without ${name}`;
      line.append(where, from(make("small", told), data, "heads"), shade, bar);
      list.append(line);
    }
    return list;
  }

  // Where it all comes from.
  function origin(data, place) {
    const titles = { model: "Training", heads: "Heads", neurons: "Neurons", map: "What parts carry", grades: "Grades" };
    const found = Object.entries(data.origins).map(([name, { file, record }]) => {
      const part = make("section");
      const facts = make("dl");
      for (const [fact, value] of Object.entries({ file, ...record })) {
        const line = make("div");
        line.append(make("dt", fact.replaceAll("_", " ")), make("dd", typeof value === "object" ? JSON.stringify(value) : String(value)));
        facts.append(line);
      }
      part.append(make("h3", titles[name] ?? name), facts);
      return part;
    });
    const note = "tslens verify makes a file of results again by the command that it records, and compares every number.";
    place.replaceChildren(make("p", note, "hint"), ...(found.length ? found : [make("p", "Nothing was measured of this model yet.", "says")]));
  }

  const first = (data) => (data.heads ? "heads" : data.map ? "map" : data.neurons ? "neurons" : "texts");
  return { heads, neurons, map, texts: textsTab, origin, first };
})();

// What the page can do beyond being read: sort and filter its tables, show the runs behind a number, draw curves.
"use strict";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Sorting

// The first number of a cell, or null: 1,234; −0.25 [−0.30, −0.20]; 3×10^−4; <0.001.
function numberIn(cell) {
  const text = cell.textContent.replace(/,(?=\d{3})/g, "").replace(/−/g, "-");
  const power = cell.querySelector("sup") && text.match(/^(?:([\d.]+)×)?10(-?\d+)/);
  if (power) return Number(power[1] ?? 1) * 10 ** Number(power[2]);
  const found = text.match(/^[\s[<>+]*(-?\d+(\.\d+)?(e-?\d+)?)/);
  return found ? Number(found[1]) : null;
}

function compare(a, b) {
  const [one, other] = [numberIn(a), numberIn(b)];
  if (one !== null && other !== null) return one - other;
  if ((one === null) !== (other === null)) return one === null ? 1 : -1;
  return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}

const isEmpty = (cell) => ["", "–"].includes(cell.textContent.trim());

function sort(table, header, column) {
  const descending = header.ariaSort === "ascending" || (!header.ariaSort && header.classList.contains("r"));
  const again = header.ariaSort && descending === (header.ariaSort === "descending");
  const downwards = again ? !descending : descending;
  for (const other of table.tHead.querySelectorAll("th")) other.ariaSort = null;
  header.ariaSort = downwards ? "descending" : "ascending";
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    rows.sort((a, b) => {
      const [one, other] = [a.cells[column], b.cells[column]];
      if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other); // last, whichever way
      return downwards ? compare(other, one) : compare(one, other);
    });
    body.append(...rows);
  }
}

function makeSortable(table) {
  [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((header) => {
    const button = element("button", { type: "button" }, ...header.childNodes);
    button.addEventListener("click", () => sort(table, header, header.cellIndex));
    header.append(button);
  });
}

// Filtering

class Filter {
  constructor(table) {
    this.table = table;
    this.rows = [...table.tBodies[0].rows];
    this.behind = null; // the rows behind a number, when the reader came from one
    this.words = element("input", { type: "search" });
    this.choices = [...table.tHead.querySelectorAll("th[data-choose]")].map((header) => this.choice(header));
    this.count = element("output");
    this.all = element("button", { type: "button", textContent: "Show all" });
    this.form = element("form", { className: "filter" }, element("label", {}, "find", this.words));
    for (const { label } of this.choices) this.form.append(label);
    this.form.append(this.count, this.all);
    this.form.addEventListener("input", () => this.apply());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.all.addEventListener("click", () => this.clear());
    table.closest(".scroll").before(this.form);
    this.apply();
  }

  choice(header) {
    const column = header.cellIndex;
    const values = [...new Set(this.rows.map((row) => row.cells[column].textContent))];
    const select = element("select", {}, element("option", { value: "", textContent: "any" }));
    for (const value of values) select.append(element("option", { value, textContent: value }));
    return { column, select, label: element("label", {}, header.textContent, select) };
  }

  apply() {
    const words = this.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let number = 0;
    this.rows.forEach((row) => {
      const text = row.textContent.toLowerCase() + " " + row.id;
      const fits =
        (!this.behind || this.behind.rows.has(row)) &&
        words.every((word) => text.includes(word)) &&
        this.choices.every(({ column, select }) => !select.value || row.cells[column].textContent === select.value);
      row.hidden = !fits;
      number += fits;
    });
    const behind = this.behind ? ` behind ${this.behind.name}` : "";
    this.count.textContent = `${number} of ${this.rows.length} rows${behind}`;
    this.all.hidden = number === this.rows.length;
  }

  show(rows, name) {
    this.form.reset();
    this.behind = { rows: new Set(rows), name };
    this.apply();
  }

  clear() {
    this.form.reset();
    this.behind = null;
    this.apply();
  }
}

// The runs behind a number

function parseRanges(text) {
  return text.split(",").flatMap((span) => {
    const [first, last = first] = span.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

function showRuns(runs, places, name) {
  runs.show(places.map((place) => runs.inOrder[place]), name);
  location.hash = "runs";
  runs.table.closest(".scroll").scrollTop = 0;
}

// A row that a link leads to is no longer filtered out, and what is folded around it opens.
function reveal(filters) {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (const filter of filters) if (target.hidden && filter.table.contains(target)) filter.clear();
  for (let around = target.closest("details"); around; around = around.parentElement.closest("details")) {
    around.open = true;
  }
  target.scrollIntoView({ block: target.matches("tr") ? "center" : "start" });
}

// Curves

const DASHES = ["", "6 3", "8 3 2 3", "2 3", "8 2 2 2 2 2", "10 4", "2 5", "5 2 2 2 2 2"];
const colour = (number) => `var(--mark-${number % 8})`;
const dashes = (number) => DASHES[(number + Math.floor(number / 8)) % 8];
const WIDTH = 760;
const HEIGHT = 360;
const FRAME = { left: 62, right: 16, top: 14, bottom: 40 };

function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((value) => value >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) {
    found.push(Number(value.toPrecision(8)));
  }
  return found;
}

class Curves {
  constructor(holder, data) {
    this.data = data;
    this.runs = Object.entries(data.runs).map(([place, columns]) => {
      const parts = place.split("/");
      return { place, columns, setting: parts.slice(0, 3).join(" / "), method: parts[3], seed: parts[4] };
    });
    const settings = [...new Set(this.runs.map((run) => run.setting))];
    this.setting = this.select("data and backbone", settings.map((name) => [name, name]));
    this.measure = this.select("measure", data.measures.map((name, i) => [name, i + 1]));
    this.run = this.select("run", []);
    this.key = element("fieldset", { className: "key" });
    this.plot = element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Learning curves" });
    this.values = element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Values of the run" });
    const form = element("form", { className: "filter" }, ...[this.setting, this.measure, this.run].map((s) => s.label));
    form.addEventListener("submit", (event) => event.preventDefault());
    holder.replaceChildren(form, this.key, this.plot, this.values);
    this.setting.addEventListener("input", () => this.change());
    for (const part of [this.measure, this.run, this.key]) part.addEventListener("input", () => this.draw());
    this.change();
  }

  select(name, options) {
    const made = element("select", {}, ...options.map(([text, value]) => new Option(text, value)));
    made.label = element("label", {}, name, made);
    return made;
  }

  // Another setting has other methods and runs.
  change() {
    this.here = this.runs.filter((run) => run.setting === this.setting.value);
    const off = new Set([...this.key.querySelectorAll("input:not(:checked)")].map((box) => box.value));
    const methods = this.data.methods.filter((method) => this.here.some((run) => run.method === method));
    this.key.replaceChildren(
      ...methods.map((method) => {
        const number = this.data.methods.indexOf(method);
        const line = { x1: 0, x2: 28, y1: 4, y2: 4, stroke: colour(number), "stroke-width": 2.5 };
        const swatch = drawn("svg", { class: "swatch", viewBox: "0 0 28 8", "aria-hidden": "true" },
          drawn("line", { ...line, "stroke-dasharray": dashes(number) }));
        const box = element("input", { type: "checkbox", value: method, checked: !off.has(method) });
        return element("label", {}, box, swatch, method);
      }),
    );
    const names = this.here.map((run) => new Option(`${run.method}, ${run.seed.replace("-", " ")}`, run.place));
    this.run.replaceChildren(new Option("all", ""), ...names);
    this.draw();
  }

  show(place) {
    this.setting.value = this.runs.find((run) => run.place === place).setting;
    this.change();
    this.run.value = place;
    this.key.querySelector(`input[value="${CSS.escape(place.split("/")[3])}"]`).checked = true;
    this.draw();
  }

  draw() {
    const on = new Set([...this.key.querySelectorAll("input:checked")].map((box) => box.value));
    const measure = Number(this.measure.value);
    const curves = this.here
      .filter((run) => on.has(run.method))
      .map((run) => ({
        run,
        points: run.columns[0].map((epoch, i) => [epoch, run.columns[measure][i]]).filter(([, y]) => y !== null),
      }))
      .filter(({ points }) => points.length);
    this.plot.replaceChildren(curves.length ? this.chart(curves) : element("p", { textContent: "No curves to show." }));
    this.values.replaceChildren(...this.table());
  }

  chart(curves) {
    const all = curves.flatMap(({ points }) => points);
    const [left, right] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
    const [low, high] = [Math.min(...all.map(([, y]) => y)), Math.max(...all.map(([, y]) => y))];
    const room = (high - low) * 0.05 || 0.05;
    const x = (v) => FRAME.left + ((v - left) / (right - left || 1)) * (WIDTH - FRAME.left - FRAME.right);
    const y = (v) => HEIGHT - FRAME.bottom - ((v - low + room) / (high - low + 2 * room)) * (HEIGHT - FRAME.top - FRAME.bottom);
    const name = this.measure.selectedOptions[0].text;
    const svg = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `${name} after each epoch, ${curves.length} runs on ${this.setting.value}`,
    });
    for (const value of ticks(low, high)) {
      svg.append(drawn("line", { class: "grid", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: y(value), y2: y(value) }),
        drawn("text", { x: FRAME.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    const epochs = ticks(left, right, Math.min(10, right - left || 1)).filter(Number.isInteger);
    for (const value of epochs) {
      svg.append(drawn("text", { x: x(value), y: HEIGHT - FRAME.bottom + 18, "text-anchor": "middle" }, String(value)));
    }
    svg.append(drawn("text", { x: (FRAME.left + WIDTH - FRAME.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "epoch"),
      drawn("text", { x: 14, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${HEIGHT / 2})` }, name));
    for (const { run, points } of curves) {
      const number = this.data.methods.indexOf(run.method);
      const faded = this.run.value && this.run.value !== run.place ? " faded" : "";
      const title = drawn("title", {}, `${run.place}: ${points.at(-1)[1]} after epoch ${points.at(-1)[0]}`);
      const look = { class: `curve${faded}`, stroke: colour(number), "data-run": run.place };
      svg.append(points.length > 1
        ? drawn("polyline", { ...look, points: points.map(([a, b]) => `${x(a)},${y(b)}`).join(" "),
          "stroke-dasharray": dashes(number) }, title)
        : drawn("circle", { ...look, cx: x(points[0][0]), cy: y(points[0][1]), r: 4 }, title));
    }
    return svg;
  }

  table() {
    const run = this.here.find(({ place }) => place === this.run.value);
    if (!run) return [];
    const cell = (name, text) => element(name, { className: "r", textContent: text ?? "–" });
    const heads = ["epoch", ...this.data.measures].map((name) => Object.assign(cell("th", name), { scope: "col" }));
    const rows = run.columns[0].map((epoch, i) =>
      element("tr", {}, Object.assign(cell("th", epoch), { scope: "row" }),
        ...run.columns.slice(1).map((column) => cell("td", column[i]))));
    return [element("table", {}, element("caption", {}, element("span", { textContent: run.place })),
      element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))];
  }
}

// A column that takes a run to its curve.
function addCurveButtons(table, curves) {
  [...table.tHead.rows].at(-1).append(element("th", { scope: "col", textContent: "curve" }));
  for (const row of table.tBodies[0].rows) {
    const cell = row.insertCell();
    if (!(row.id in curves.data.runs)) continue;
    const button = element("button", { type: "button", textContent: "show", ariaLabel: `show the curve of ${row.id}` });
    button.addEventListener("click", () => {
      curves.show(row.id);
      location.hash = "curves";
    });
    cell.append(button);
  }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
const filters = [...document.querySelectorAll("table.filterable")].map((table) => new Filter(table));
const runs = filters.find(({ table }) => table.id === "table-runs");
runs.inOrder = [...runs.rows];
const curveData = JSON.parse(document.getElementById("curves-data").textContent);
if (Object.keys(curveData.runs).length && curveData.measures.length) {
  addCurveButtons(runs.table, new Curves(document.getElementById("chart"), curveData));
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-runs]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  showRuns(runs, parseRanges(link.dataset.runs), link.dataset.why);
});
addEventListener("hashchange", () => reveal(filters));
reveal(filters);

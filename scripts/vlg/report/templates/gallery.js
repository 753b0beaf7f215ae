"use strict";
// Reads the JSON in #data (vlg/gallery.py writes it) and draws one row per prompt. What is chosen
// is kept in the address after "#", so that a view can be sent to someone. All texts go in as
// text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const bar = document.getElementById("bar");
const rows = document.getElementById("rows");
const zoom = document.getElementById("zoom");
// Places in a cell.
const FILE = 0, CLIP = 1, GUIDE = 2, FIDELITY = 3, STRICT = 4, FACT = 5;

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function number(value, digits = 2) {
  return value.toFixed(digits).replace("-", "\u2212");
}

// Where a cell's picture is: a file beside the page, or in a page of the report inside it.
function source(picture) {
  return data.pictures?.[picture[FILE]] ?? picture[FILE];
}

function signed(value, digits = 2) {
  return (value > 0 ? "+" : "") + number(value, digits);
}

// --- choices ---------------------------------------------------------------------------------

function options(select, values, first) {
  if (first !== undefined) select.append(new Option(first, ""));
  for (const [value, text] of values) select.append(new Option(text, value));
}

function distinct(key) {
  const values = [...new Set(data.prompts.map((prompt) => prompt[key]))].filter(Boolean);
  return values.map((value) => [value, value]);
}

function fillBar() {
  for (const key of ["category", "challenge", "split"]) {
    const values = distinct(key);
    options(bar[key], values, "all");
    bar[key].parentElement.hidden = values.length === 0;
  }
  bar.hard.parentElement.hidden = !data.prompts.some((prompt) => prompt.hard);
  document.getElementById("guided").hidden = !data.guided;
  options(bar.seed, data.seeds.map((s) => [s.seed, s.fresh ? `${s.seed} (fresh)` : s.seed]));
  const models = data.columns.map((column, i) => [String(i), column.name]);
  options(bar.a, models);
  options(bar.b, models);
}

function choices() {
  const form = new FormData(bar);
  return Object.fromEntries([...form.entries()]);
}

function fromAddress() {
  bar.reset();
  // What the page opens with: base against the last fine-tuned model.
  bar.b.value = String(data.columns.findLastIndex((column) => !column.refined && !column.reference));
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    const control = bar.elements.namedItem(key);
    if (!control) continue;
    if (control.type === "checkbox") control.checked = value === "on";
    else {
      control.value = value;
      if (control.value !== value) control.selectedIndex = 0; // an option that is not there
    }
  }
}

function toAddress() {
  history.replaceState(null, "", "#" + new URLSearchParams(choices()));
}

// --- prompts ---------------------------------------------------------------------------------

function cell(prompt, seed, column) {
  const line = prompt.cells[seed];
  return line ? line[column] : null;
}

function gain(prompt, chosen) {
  const [a, b] = [chosen.a, chosen.b].map((column) => cell(prompt, chosen.seed, Number(column)));
  return a && b ? b[CLIP] - a[CLIP] : null;
}

function matches(prompt, chosen) {
  const words = chosen.q.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${prompt.text} ${prompt.id}`.toLowerCase();
  return ["category", "challenge", "split"].every((key) => !chosen[key] || prompt[key] === chosen[key])
    && (!chosen.hard || prompt.hard > 0)
    && words.every((word) => text.includes(word));
}

function sorted(prompts, chosen) {
  const base = (prompt) => cell(prompt, chosen.seed, 0)?.[CLIP] ?? null;
  const keys = {
    gain: (prompt) => negative(gain(prompt, chosen)),
    loss: (prompt) => gain(prompt, chosen),
    low: base,
    high: (prompt) => negative(base(prompt)),
  };
  const key = keys[chosen.sort];
  if (!key) return prompts; // as written: hard prompts first
  // What has no score at this seed comes last.
  return prompts
    .map((prompt) => [key(prompt) ?? Infinity, prompt])
    .sort((x, y) => x[0] - y[0])
    .map(([, prompt]) => prompt);
}

function negative(value) {
  return value === null ? null : -value;
}

// --- drawing ---------------------------------------------------------------------------------

function truth(picture) {
  if (picture[FIDELITY] === null) return null;
  const facts = picture.slice(FACT, FACT + data.facts.length).filter((fact) => fact !== null);
  const shown = Math.round(picture[FIDELITY] * facts.length);
  if (picture[STRICT] === 1) return element("span", {className: "right"}, "✓ all facts");
  return element("span", {}, facts.length ? `${shown} of ${facts.length} facts` : number(100 * picture[FIDELITY], 0) + " %");
}

function figure(prompt, chosen, column, previous) {
  const info = data.columns[column];
  const picture = cell(prompt, chosen.seed, column);
  const node = element("figure");
  const caption = element("figcaption", {}, element("b", {}, info.label));
  if (!picture) {
    node.append(element("div", {className: "none"}, "not drawn"), caption);
    return node;
  }
  const image = element("img", {src: source(picture), alt: `${info.name}: ${prompt.text}`, loading: "lazy", decoding: "async"});
  const button = element("button", {type: "button", tabIndex: -1, title: `enlarge ${info.name}`}, image);
  button.dataset.prompt = prompt.id;
  button.dataset.column = column;
  caption.append(element("span", {className: "score"}, `ClipScore ${number(picture[CLIP])}`));
  if (picture[GUIDE] !== null) caption.append(element("br"), `guide ${number(picture[GUIDE])}`);
  const mark = truth(picture);
  if (mark) caption.append(element("br"), mark);
  if (previous && previous[FILE] === picture[FILE]) {
    node.classList.add("same");
    caption.append(element("br"), "unchanged");
  }
  if (String(column) === chosen.a || String(column) === chosen.b) node.classList.add("chosen");
  node.append(button, caption);
  return node;
}

function strip(prompt, chosen) {
  const node = element("div", {className: "strip"});
  const pair = [...new Set([Number(chosen.a), Number(chosen.b)])];
  const columns = chosen.pair ? pair : data.columns.map((_, i) => i);
  let group, title, previous;
  for (const column of columns) {
    if (data.columns[column].group !== title || !group) {
      title = data.columns[column].group;
      previous = null;
      group = element("div");
      node.append(element("div", {className: "group"}, element("h3", {}, title), group));
    }
    group.append(figure(prompt, chosen, column, data.columns[column].refined ? previous : null));
    previous = cell(prompt, chosen.seed, column);
  }
  const first = node.querySelector("button");
  if (first) first.tabIndex = 0; // one stop per row; arrows do the rest
  return node;
}

function article(prompt, chosen) {
  const meta = element("p", {className: "meta"});
  if (prompt.hard) meta.append(element("span", {className: "hard"}, `hard prompt ${prompt.hard}`));
  for (const key of ["category", "challenge", "split"]) {
    if (prompt[key]) meta.append(element("span", {}, prompt[key]));
  }
  const difference = gain(prompt, chosen);
  if (difference !== null && chosen.a !== chosen.b) {
    const [a, b] = [chosen.a, chosen.b].map((column) => data.columns[Number(column)].name);
    const side = difference > 0 ? "up" : difference < 0 ? "down" : "";
    meta.append(element("span", {className: "gain"},
      element("b", {className: side}, signed(difference)), ` ${b} against ${a}`));
  }
  const node = element("article", {}, element("h2", {}, prompt.text), meta, strip(prompt, chosen));
  node.dataset.id = prompt.id;
  if (difference !== null) node.dataset.gain = difference.toFixed(2);
  return node;
}

function draw() {
  const chosen = choices();
  chosen.q ??= "";
  const found = sorted(data.prompts.filter((prompt) => matches(prompt, chosen)), chosen);
  const drawn = found.filter((prompt) => prompt.cells[chosen.seed]);
  document.body.classList.toggle("pair", Boolean(chosen.pair));
  rows.replaceChildren(...drawn.map((prompt) => article(prompt, chosen)));
  const fresh = data.seeds.find((s) => s.seed === chosen.seed)?.fresh;
  const hint = fresh && found.length > drawn.length ? "; fresh seeds were drawn for hard prompts only" : "";
  document.getElementById("status").textContent = `${drawn.length} of ${data.prompts.length} prompts${data.note ? ` (${data.note})` : ""}${hint}`;
}

// Pictures of the checkpoints on development prompts, a row for each prompt and seed.
function drawSamples() {
  const place = document.getElementById("samples");
  if (!data.samples) return;
  place.hidden = false;
  const several = new Set(data.samples.rows.map((row) => row.seed)).size > 1;
  place.querySelector("div").append(...data.samples.rows.map((row) => {
    const groups = new Map();
    data.samples.columns.forEach((column, i) => {
      if (!groups.has(column.group)) groups.set(column.group, element("div"));
      const name = `${column.group}, ${column.label}`;
      groups.get(column.group).append(element("figure", {}, row.cells[i]
        ? element("img", {src: row.cells[i], alt: `${name}: ${row.text}`, loading: "lazy"})
        : element("div", {className: "none"}, "not drawn"),
        element("figcaption", {}, column.label)));
    });
    const strips = [...groups].map(([name, pictures]) =>
      element("div", {className: "group"}, element("h3", {}, name), pictures));
    return element("section", {}, element("h2", {}, several ? `${row.text} (seed ${row.seed})` : row.text),
      element("div", {className: "strip", tabIndex: 0, role: "region", ariaLabel: row.text}, ...strips));
  }));
}

function changed() {
  toAddress();
  draw();
}

// --- keyboard and enlargement ----------------------------------------------------------------

function move(button, key) {
  const row = button.closest("article");
  const own = [...row.querySelectorAll("figure button")];
  const sideways = {ArrowLeft: -1, ArrowRight: 1}[key];
  let next;
  if (sideways) next = own[own.indexOf(button) + sideways];
  else {
    const other = key === "ArrowUp" ? row.previousElementSibling : row.nextElementSibling;
    next = other?.querySelector(`button[data-column="${button.dataset.column}"]`) ?? other?.querySelector("figure button");
  }
  if (!next) return;
  for (const stop of next.closest("article").querySelectorAll("figure button")) stop.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  next.scrollIntoView({block: "nearest", inline: "nearest"});
}

let shown = null;

function enlarge(promptId, column) {
  const chosen = choices();
  const prompt = data.prompts.find((p) => p.id === promptId);
  const picture = cell(prompt, chosen.seed, column);
  if (!picture) return;
  shown = [promptId, column];
  const image = document.getElementById("zoom-picture");
  image.src = source(picture);
  image.alt = `${data.columns[column].name}: ${prompt.text}`;
  document.getElementById("zoom-title").textContent = data.columns[column].name;
  document.getElementById("zoom-prompt").textContent = prompt.text;
  const lines = [["ClipScore", number(picture[CLIP])], ["seed", chosen.seed]];
  if (picture[GUIDE] !== null) lines.splice(1, 0, ["guide", number(picture[GUIDE])]);
  if (picture[FIDELITY] !== null) lines.push(["fidelity", number(100 * picture[FIDELITY], 0) + " %"]);
  data.facts.forEach((fact, i) => {
    const value = picture[FACT + i];
    if (value !== null) lines.push([fact, value === 1 ? "✓ right" : value === 0 ? "✗ wrong" : number(100 * value, 0) + " %"]);
  });
  data.judges.forEach((judge, i) => {
    const value = picture[FACT + data.facts.length + i];
    if (value !== null) lines.push([judge, number(value)]);
  });
  const list = document.getElementById("zoom-scores");
  list.replaceChildren(...lines.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));
  if (!zoom.open) zoom.showModal();
}

function step(by) {
  const [promptId, column] = shown;
  const prompt = data.prompts.find((p) => p.id === promptId);
  for (let next = column + by; next >= 0 && next < data.columns.length; next += by) {
    if (cell(prompt, choices().seed, next)) return enlarge(promptId, next);
  }
}

rows.addEventListener("click", (event) => {
  const button = event.target.closest("figure button");
  if (button) enlarge(button.dataset.prompt, Number(button.dataset.column));
});
rows.addEventListener("keydown", (event) => {
  const button = event.target.closest("figure button");
  if (button && event.key.startsWith("Arrow")) {
    event.preventDefault();
    move(button, event.key);
  }
});
zoom.addEventListener("keydown", (event) => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by) step(by);
});
zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
document.getElementById("zoom-previous").addEventListener("click", () => step(-1));
document.getElementById("zoom-next").addEventListener("click", () => step(1));
bar.addEventListener("input", changed);
bar.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => { fromAddress(); draw(); });

document.body.classList.toggle("has-truth", data.truth);
document.body.classList.toggle("small", data.small);
fillBar();
drawSamples();
fromAddress();
draw();

"use strict";
// Sorts and filters the rows of the tables in the page, and copies its texts. Without it the page
// shows the table all the same.
const [search, all] = ["search", "all"].map((id) => document.getElementById(id));
const views = document.querySelectorAll("table[id]");
const view = () => views[all.checked ? 1 : 0];
const written = new Map([...views].map((table) => [table, [...table.tBodies[0].rows]]));

// What a row is sorted by: the number or the words of its cell, null when that is empty.
function key(row, column, numeric) {
  const cell = row.cells[column];
  return numeric ? ("value" in cell.dataset ? Number(cell.dataset.value) : null) : cell.textContent;
}

function sort(head) {
  const table = head.closest("table"), column = head.cellIndex;
  const numeric = head.classList.contains("number");
  // First what is most asked for: numbers from the largest, words from A; then the other way, then
  // as written.
  const ways = numeric ? ["descending", "ascending", null] : ["ascending", "descending", null];
  const way = ways[(ways.indexOf(head.ariaSort) + 1) % ways.length];
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  head.ariaSort = way;
  const rows = written.get(table), by = way === "ascending" ? 1 : -1;
  const [known, empty] = [true, false].map((wanted) =>
    rows.filter((row) => (key(row, column, numeric) !== null) === wanted));
  known.sort((one, other) => {
    const [a, b] = [one, other].map((row) => key(row, column, numeric));
    return by * (numeric ? a - b : a.localeCompare(b));
  });
  table.tBodies[0].append(...(way ? [...known, ...empty] : rows));
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const table of views) {
    table.hidden = table !== view();
    for (const row of table.tBodies[0].rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  }
  const rows = [...view().tBodies[0].rows];
  const shown = rows.filter((row) => !row.hidden);
  document.getElementById("count").textContent = `${shown.length} of ${rows.length} rows`;
}

async function copy(button) {
  const text = button.nextElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch {
    // Inside another page the clipboard may be refused: what is selected can still be copied.
    getSelection().selectAllChildren(text);
    document.execCommand("copy");
  }
  button.textContent = "copied";
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
for (const button of document.querySelectorAll("details button")) {
  button.addEventListener("click", () => copy(button));
}
search.addEventListener("input", filter);
all.addEventListener("input", filter);
document.querySelector(".tools[hidden]").hidden = false;
filter();

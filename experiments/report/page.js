// Columns sort by a click, Enter or Space on their head: down, up, and back to the order they came in.
"use strict";
const key = (row, column) => {
  const cell = row.cells[column];
  const value = cell.querySelector("data")?.value ?? cell.textContent.trim();
  const number = Number(value);
  return value !== "" && Number.isFinite(number) ? number : value;
};
const missing = (value) => value === "–" || value === "";
const compare = (a, b, sign) => {
  // Cells without a value stay last whichever way the column runs.
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * a.localeCompare(b, "en", { numeric: true });
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  // What narrow windows and paper show in place of the head.
  for (const row of original) {
    [...row.cells].slice(1).forEach((cell, column) => (cell.dataset.label = heads[column + 1].textContent));
  }
  table.classList.toggle("wide", heads.length > 9);
  if (original.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    const words = head.querySelector("span");
    button.textContent = words.textContent;
    if (body.rows[0].cells[column].classList.contains("name")) head.classList.add("name");
    if (!words.textContent) button.setAttribute("aria-label", "name");
    words.replaceWith(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort] ?? (head.ariaSort ? null : "ascending");
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const order = next ? [...original].sort((a, b) => compare(key(a, column), key(b, column), sign)) : original;
      body.append(...order);
    });
  });
}
// Paper shows what is folded, also where a browser's style sheet cannot unfold it.
const folded = () => [...document.querySelectorAll("details:not([open])")];
let unfolded = [];
addEventListener("beforeprint", () => (unfolded = folded()).forEach((each) => (each.open = true)));
addEventListener("afterprint", () => unfolded.forEach((each) => (each.open = false)));

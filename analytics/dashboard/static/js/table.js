// Tables: figures to the right, a bar for shares, a row that leads somewhere.

import { h } from "./dom.js";
import { exact } from "./format.js";

/**
 * `columns`: {key, label, format(value, row), numeric, bar, href(row), fold}. `onRow(row)` makes rows clickable, by the
 * keyboard through the first cell. `limit` cuts long lists and says so. `stack`: on a phone a row is a block of its cells,
 * without those of `minor` columns.
 */
export function table(columns, rows, { caption, onRow, limit = 500, dense = false, stack = false } = {}) {
  const shown = rows.slice(0, limit);
  const most = Object.fromEntries(
    columns.filter((column) => column.bar).map((column) => [column.key, Math.max(...shown.map((row) => row[column.key] ?? 0), 0)]),
  );
  const head = h("tr", columns.map((column) => h("th", { scope: "col", className: kind(column) }, column.label)));
  const linked = columns.some((column) => column.href);
  const body = shown.map((row) => line(columns, row, most, onRow, linked));
  const element = h(
    dense ? "table.dense" : "table",
    caption ? h("caption.visually-hidden", caption) : null,
    h("thead", head),
    h("tbody", body),
  );
  const rest = rows.length - shown.length;
  const more = rest > 0 ? h("p.note", `${exact(rest)} more: the download has all.`) : null;
  return h(stack ? "div.table-frame.stack" : "div.table-frame", { tabIndex: 0, role: "region", "aria-label": caption ?? "Table" }, element, more);
}

function line(columns, row, most, onRow, linked) {
  const cells = columns.map((column, place) => {
    const text = column.format ? column.format(row[column.key], row) : (row[column.key] ?? "–");
    const content = place === 0 && onRow && !linked ? button(text, () => onRow(row)) : text;
    const shown = column.href ? h("a", { href: column.href(row) }, content) : content;
    const share = most[column.key] > 0 ? Math.max(0, (row[column.key] ?? 0) / most[column.key]) : 0;
    const bar = column.bar ? h("span.bar", { style: { "--share": `${share * 100}%` }, "aria-hidden": "true" }) : null;
    return h("td", { className: kind(column), dataset: { label: column.label } }, bar, shown);
  });
  const element = h(onRow ? "tr.clickable" : "tr", cells);
  if (onRow) {
    element.addEventListener("click", (event) => {
      if (!event.target.closest("a, button, input")) onRow(row);
    });
  }
  return element;
}

function button(content, onclick) {
  return h("button.cell", { type: "button", onclick }, content);
}

function kind(column) {
  return [column.numeric ? "num" : "", column.bar ? "has-bar" : "", column.fold ? "fold" : "", column.minor ? "minor" : ""].filter(Boolean).join(" ");
}

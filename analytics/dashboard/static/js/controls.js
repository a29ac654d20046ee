// Small parts: choices, search, figures.

import { sparkline } from "./chart.js";
import { h } from "./dom.js";

/** One of a few, all in sight. `options`: {value, label}. */
export function segmented(label, options, current, onChange) {
  const buttons = options.map(({ value, label: text }) =>
    h("button", { type: "button", "aria-pressed": String(value === current), onclick: () => onChange(value) }, text),
  );
  return h("div.segmented", { role: "group", "aria-label": label }, buttons);
}

export function select(label, options, current, onChange) {
  const element = h(
    "select",
    { "aria-label": label, onchange: () => onChange(element.value) },
    options.map(({ value, label: text }) => h("option", { value, selected: value === current }, text)),
  );
  return element;
}

/** Calls `onInput` when typing has paused. */
export function search(label, value, onInput, { placeholder = label, list } = {}) {
  let waiting;
  const element = h("input", {
    type: "search",
    value,
    placeholder,
    "aria-label": label,
    autocomplete: "off",
    spellcheck: false,
    list,
    oninput: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => onInput(element.value.trim()), 300);
    },
  });
  return element;
}

/** One figure. `spark`: numbers, oldest first. */
export function stat(label, value, { sub, tone, spark, id } = {}) {
  return h(
    "div.stat",
    { dataset: { tone: tone ?? "", figure: id ?? "" } },
    h("span.stat-label", label),
    h("span.stat-value.num", value),
    sub ? h("span.stat-sub", sub) : null,
    spark ? sparkline(spark, tone) : null,
  );
}

export function stats(figures) {
  return h("div.stats", figures);
}

export function badge(text, tone = "") {
  return h("span.badge", { dataset: { tone } }, text);
}

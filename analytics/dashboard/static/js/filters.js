// What a page is narrowed to, as chips that can be taken away; each is a part of its address.

import { h } from "./dom.js";

export const NAMES = {
  tenant: "Tenant",
  feature: "Feature",
  user: "User",
  model: "Model",
  model_version: "Version",
  route: "Route",
  outcome: "Outcome",
  lane: "Lane",
  api_key_id: "API key",
  requested_model: "Asked for",
  operation: "Operation",
  engine: "Engine",
  tag: "Tag",
};

/** A value as people read it: an empty one has a name too. */
export function label(value) {
  return value === "" || value === null || value === undefined ? "(none)" : value;
}

/** The filters that an address has, of those named; an empty value is one. */
export function filtersOf(page, names) {
  return Object.fromEntries(names.filter((name) => page.query.has(name)).map((name) => [name, page.query.get(name)]));
}

/** Chips for the filters and for a period that has an end; nothing when there is nothing. */
export function chips(page, names, change) {
  const found = Object.entries(filtersOf(page, names)).map(([name, value]) =>
    chip(`${NAMES[name]}: ${label(value)}`, () => change({ [name]: null })),
  );
  if (page.query.has("until")) {
    found.unshift(chip(between(page.query.get("since"), page.query.get("until")), () => change({ since: null, until: null })));
  }
  return found.length ? h("div.chips", found) : null;
}

function chip(text, onclick) {
  return h("button.chip", { type: "button", title: "Take this away", onclick }, text, h("span", { "aria-hidden": "true" }, "×"));
}

function between(since, until) {
  const [from, to] = [new Date(since), new Date(until)];
  if (Number.isNaN(from.getTime())) return `Until ${until}`;
  const [first, last] = [from.toISOString(), to.toISOString()];
  if (to - from === 86_400_000 && first.endsWith("T00:00:00.000Z")) return `${first.slice(0, 10)} UTC`;
  const end = last.slice(0, 10) === first.slice(0, 10) ? last.slice(11, 16) : last.slice(0, 16).replace("T", " ");
  return `${first.slice(0, 16).replace("T", " ")} – ${end} UTC`;
}

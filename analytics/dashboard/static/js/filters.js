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

/** The filters that an address has, of those named; `none` lists what has to be empty. */
export function filtersOf(page, names) {
  const found = Object.fromEntries(names.map((name) => [name, page.query.get(name)]).filter(([, value]) => value));
  return { ...found, none: nones(page).join(",") };
}

/** What to change in the address to see only what has this value, which may be empty. */
export function narrow(page, name, value) {
  const others = nones(page).filter((other) => other !== name);
  const none = value === "" ? [...others, name] : others;
  return { [name]: value || null, none: none.join(",") || null };
}

/** Chips for the filters and for a period that has an end; nothing when there is nothing. */
export function chips(page, names, change) {
  const given = names.filter((name) => page.query.get(name));
  const found = given.map((name) => chip(`${NAMES[name]}: ${page.query.get(name)}`, () => change({ [name]: null })));
  for (const name of nones(page)) {
    const left = nones(page).filter((other) => other !== name);
    found.push(chip(`${NAMES[name]}: ${label("")}`, () => change({ none: left.join(",") || null })));
  }
  if (page.query.has("until")) {
    found.unshift(chip(between(page.query.get("since"), page.query.get("until")), () => change({ since: null, until: null })));
  }
  return found.length ? h("div.chips", found) : null;
}

function nones(page) {
  return (page.query.get("none") ?? "").split(",").filter(Boolean);
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

// Requests: a list to search in, and one request's whole life.

import { badge, dialog, empty, format, get, h, panel, REPLAY, search, select, stat, stats, table } from "/static/js/kit.js";

const OUTCOMES = ["succeeded", "failed", "rejected", "expired", "timed_out", "cancelled"];
export const TONES = { failed: "bad", timed_out: "bad", expired: "warn", rejected: "warn", cancelled: "" };

export default {
  title: "Requests",
  css: true,
  period: (page) => !page.path.length,
  tenants: (page) => !page.path.length,
  mount(page) {
    if (page.path.length >= 2) one(page, page.path[0], page.path.slice(1).join("/"));
    else list(page);
  },
};

export function outcome(value) {
  return value === "succeeded" ? value : badge(value.replace("_", " "), TONES[value]);
}

function list(page) {
  const asked = (name) => page.query.get(name) ?? "";
  const choose = (name) => (value) => page.setQuery({ [name]: value });
  const any = (label, values) => [{ value: "", label }, ...values.map((value) => ({ value, label: value.replace("_", " ") }))];
  page.root.append(
    h(
      "div.filters",
      search("Key", asked("key"), choose("key"), { placeholder: "Idempotency key, or how it begins" }),
      search("User", asked("user"), choose("user")),
      search("Feature", asked("feature"), choose("feature")),
      search("Model", asked("model"), choose("model")),
      select("Outcome", any("Any outcome", OUTCOMES), asked("outcome"), choose("outcome")),
      select("Lane", any("Any lane", ["interactive", "batch"]), asked("lane"), choose("lane")),
    ),
    panel(page, {
      title: "Requests",
      note: "the newest first; a whole key is found in all times",
      source: "requests/list",
      params: Object.fromEntries(["key", "user", "feature", "model", "outcome", "lane", "until"].map((name) => [name, asked(name)])),
      wide: true,
      live: !asked("until"),
      table: false,
      render: (data, body) => body.append(rows(page, data)),
      empty: () => nothing(page),
    }),
  );
}

function rows(page, data) {
  const path = (row) => ["requests", row.tenant, row.idempotency_key].map(encodeURIComponent).join("/");
  const one = (row) => page.link(path(row));
  const columns = [
    { key: "event_time", label: "Ended (UTC)", format: (at) => h("span.num", format.time(at)) },
    { key: "tenant", label: "Tenant" },
    { key: "idempotency_key", label: "Key", href: one, format: shortKey },
    { key: "outcome", label: "Outcome", format: outcome },
    { key: "model", label: "Model", format: (model, row) => model || h("span.muted", row.requested_model || "none") },
    { key: "user", label: "User", minor: true, format: (user) => user || "–" },
    { key: "feature", label: "Feature", minor: true, format: (feature) => feature || "–" },
    { key: "prompt_tokens", label: "Tokens", numeric: true, format: (_, row) => `${format.count(row.prompt_tokens)} + ${format.count(row.completion_tokens)}` },
    { key: "cost_nano", label: "Cost", numeric: true, format: format.money },
    { key: "ttft_ms", label: "First token", numeric: true, format: format.ms },
    { key: "total_ms", label: "Total", numeric: true, format: format.ms },
  ];
  const shown = page.session.operator && !page.query.get("tenant") ? columns : columns.filter((column) => column.key !== "tenant");
  const frame = table(shown, data.rows, { caption: "Requests", stack: true, onRow: (row) => page.go(path(row)) });
  const older = () => page.setQuery({ until: new Date(data.rows.at(-1).event_time).toISOString() });
  const newest = () => page.setQuery({ until: null });
  const turn = h("div.turn", page.query.get("until") ? h("button", { type: "button", onclick: newest }, "Newest") : null, data.more ? h("button", { type: "button", onclick: older }, "Older") : null);
  return h("div", frame, turn.childElementCount ? turn : null);
}

/** Long keys differ at their end more often than in their middle. */
function shortKey(key) {
  return h("span.mono", { title: key }, key.length > 24 ? `${key.slice(0, 10)}…${key.slice(-10)}` : key);
}

function nothing(page) {
  const filtered = ["key", "user", "feature", "model", "outcome", "lane", "until"].some((name) => page.query.get(name));
  if (filtered) return empty("No request fits", "Take a filter away, or look further back.");
  return empty("No request ended in this period", "A request gets its row within two seconds of its end. To see some, replay real traffic:", {
    command: REPLAY,
  });
}

function one(page, tenant, key) {
  const root = h("div.one");
  page.root.append(h("a.back", { href: page.link("requests") }, "← All requests"), root);
  const load = () =>
    get("requests/one", { tenant, key }, page.signal).then(
      (data) => {
        root.replaceChildren(...(data.life ? life(data, tenant, key) : running(data.state, tenant, key)));
        if (!data.life) page.live("ledger", load);
      },
      (error) => {
        if (error.name !== "AbortError") root.replaceChildren(h("section.panel", empty(`${tenant}:${key}`, error.message)));
      },
    );
  load();
}

function running(state, tenant, key) {
  const since = state.created_at ? format.ago(state.created_at) : "–";
  return [
    title(tenant, key, badge(state.status.replace("_", " "), "accent")),
    h("section.panel", stats([stat("Accepted", since), stat("Model", state.model || "not chosen yet")]), h("p.note", "It is not in the ledger yet; this page follows it.")),
  ];
}

function title(tenant, key, mark) {
  return h("div.title", h("span.key.mono", h("span.muted", `${tenant}:`), key), mark);
}

function life({ rows, life: told, sql }, tenant, key) {
  const main = rows.find((row) => row.kind === "usage") ?? rows[0];
  const cost = rows.filter((row) => !["waste", "escalated", "shadow"].includes(row.kind)).reduce((sum, row) => sum + row.cost_nano, 0);
  const parts = [
    title(tenant, key, badge(main.outcome.replace("_", " "), TONES[main.outcome] ?? "good")),
    stats([
      stat("First token", format.ms(main.ttft_ms), { sub: main.queue_ms === null ? "" : `of it ${format.ms(main.queue_ms)} before the engine` }),
      stat("Total", format.ms(main.total_ms)),
      stat("Tokens", `${format.exact(main.prompt_tokens)} + ${format.exact(main.completion_tokens)}`, { sub: `${format.exact(main.cached_tokens)} of the prompt cached` }),
      stat("Cost", format.money(cost), { sub: told.corrections.length ? "with its corrections" : main.cost_nano || cost ? `prices ${main.price_version}` : "not billed" }),
    ]),
  ];
  told.runs.forEach((run, place) => parts.push(timeline(run, place, told.runs.length)));
  if (told.corrections.length) parts.push(corrections(told.corrections));
  parts.push(facts(main, sql));
  return parts;
}

function timeline(run, place, count) {
  const most = Math.max(1, run.steps.at(-1).total_ms);
  const heading = { usage: count > 1 ? "Its life: the run that counts" : "Its life", waste: "A wasted run, never billed", escalated: "A first answer that did not stand", shadow: "Another model's run, to compare" }[run.kind];
  const lines = run.steps.map((step, number) => {
    const before = number ? run.steps[number - 1].total_ms : 0;
    const place_ = { "--from": `${(before / most) * 100}%`, "--width": `${((step.total_ms - before) / most) * 100}%` };
    return h(
      "li",
      h("span.step", step.title),
      h("span.num.clock", format.clock(step.at)),
      h("span.num.took", number ? `+${format.ms(step.took_ms)}` : ""),
      h("span.lane-bar", { "aria-hidden": "true" }, h("span", { style: place_, dataset: { step: step.step } })),
      h("span.note", step.note),
    );
  });
  const day = format.day(run.steps[0].at);
  return h("section.panel", h("header.panel-head", h("div.panel-titles", h("h2", heading), h("p.note", `${day} UTC, ${format.ms(most)} from acceptance to the ledger${place ? "" : ""}`))), h("ol.life", lines));
}

function corrections(rows) {
  const columns = [
    { key: "at", label: "Made (UTC)", format: format.time },
    { key: "kind", label: "Kind" },
    { key: "cost_nano", label: "Amount", numeric: true, format: format.moneyExact },
    { key: "price_version", label: "Prices", format: (value) => value || "–" },
    { key: "reason", label: "Why", fold: true, format: (value) => value || "–" },
    { key: "place", label: "Offset" },
  ];
  return h("section.panel", h("header.panel-head", h("h2", "Corrections")), table(columns, rows, { caption: "Corrections" }));
}

function facts(row, sql) {
  const known = [
    ["Answer", `${row.outcome.replace("_", " ")}, HTTP ${row.status}`],
    ["Lane", `${row.lane}${row.streamed ? ", streamed" : ""}`],
    ["Asked for", row.requested_model],
    ["Served by", [row.model, row.model_version].filter(Boolean).join(" ")],
    ["Route", row.route ? `${row.route}, complexity ${row.complexity.toFixed(3)}, policy ${row.router_version}` : ""],
    ["Engine", [row.engine, row.worker].filter(Boolean).join(" on ")],
    ["Engine time", row.engine_us ? format.ms(row.engine_us / 1000) : ""],
    ["Reserved", `${format.exact(row.reserved_tokens)} tokens`],
    ["User", row.user],
    ["Feature", row.feature],
    ["Tags", Object.entries(row.tags ?? {}).map(([name, value]) => `${name}=${value}`).join(", ")],
    ["API key", row.api_key_id],
    ["On requests", row.claim, true],
    ["On usage", `${row.topic} ${row.partition}.${row.offset}`, true],
    ["Trace", row.trace_id, true],
    ["Run", row.run, true],
    ["Event", row.event_id, true],
    ["Cost", row.cost_nano ? `${format.moneyExact(row.cost_nano)}, prices ${row.price_version}` : "not billed"],
  ].filter(([, value]) => value);
  const show = h("button.quiet", { type: "button", onclick: () => dialog("SQL: one request", () => h("pre.sql", { tabIndex: 0 }, h("code", sql)), { wide: true }) }, "SQL");
  return h(
    "section.panel",
    h("header.panel-head", h("div.panel-titles", h("h2", "What is known of it"), h("p.note", "the ledger's row; prompts and answers are never in it")), h("div.tools", show)),
    h("dl.facts", known.map(([label, value, mono]) => h("div", h("dt", label), h(mono ? "dd.mono" : "dd", value)))),
  );
}

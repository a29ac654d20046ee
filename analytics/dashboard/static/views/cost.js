// Cost: who spent what, on what and when, down to single requests; budgets, and what was saved.

import { chips, filtersOf, label, NAMES, narrow } from "/static/js/filters.js";
import { badge, clear, empty, format, h, panel, REPLAY, segmented, select, stat, stats, table, timeChart } from "/static/js/kit.js";
import { dollars, exact, money, nano, share, sum } from "/static/js/nano.js";
import { following, pivot } from "/static/js/series.js";

const GROUPS = ["tenant", "feature", "user", "model"];
const MORE = ["model_version", "route", "outcome", "lane", "api_key_id", "requested_model", "operation", "engine"];
const FILTERS = ["feature", "user", "model", ...MORE, "tag"];
const TONES = ["c1", "c2", "c3", "c4", "c5", "c6", "c8"];
const REST = "Others";
const RESOLUTIONS = ["auto", "minute", "hour", "day", "month"];
const NOTHING = "Nothing in this period.";
const PAGE = 20; // requests: views/cost.py

export default {
  title: "Cost",
  css: true,
  period: "30d",
  mount(page) {
    const by = page.query.get("by") ?? (page.session.operator && !page.query.get("tenant") ? "tenant" : "feature");
    const asked = { ...filtersOf(page, FILTERS), resolution: page.query.get("resolution") ?? "auto" };
    const budgets = h("div.cost-budgets");
    page.root.append(
      controls(page, by),
      totals(page, asked),
      trend(page, asked, by),
      spenders(page, asked, by),
      budgets,
      savings(page),
      requests(page, asked),
    );
    showBudgets(page, budgets);
  },
};

function controls(page, by) {
  const choose = (value) => page.setQuery({ by: value });
  const groups = page.session.operator ? GROUPS : GROUPS.slice(1);
  const more = select(
    "Group by something else",
    [{ value: "", label: "More…" }, ...MORE.map((value) => ({ value, label: NAMES[value] }))],
    MORE.includes(by) ? by : "",
    choose,
  );
  const tag = h("input", { type: "search", placeholder: "Tag…", "aria-label": "Group by a tag", value: by.startsWith("tag:") ? by.slice(4) : "" });
  tag.addEventListener("change", () => choose(tag.value.trim() ? `tag:${tag.value.trim()}` : null));
  return h(
    "div.cost-controls",
    h("span.note", "Group by"),
    segmented("Group by", groups.map((value) => ({ value, label: NAMES[value] })), by, choose),
    more,
    tag,
    chips(page, FILTERS, (change) => page.setQuery(change)),
  );
}

function totals(page, asked) {
  return panel(page, {
    title: "This period",
    source: "cost/totals",
    params: asked,
    live: true,
    wide: true,
    table: false,
    render(data, body) {
      const [all] = data.rows;
      const each = all.requests ? nano(all.cost_nano) / BigInt(all.requests) : null;
      const tokens = all.prompt_tokens + all.completion_tokens;
      const cached = all.prompt_tokens ? format.percent(all.cached_tokens / all.prompt_tokens) : "–";
      body.append(
        stats([
          stat("Spent", h("span", { title: exact(all.cost_nano) }, money(all.cost_nano)), { id: "spent" }),
          stat("Requests", format.exact(all.requests), { id: "requests" }),
          stat("Per request", money(each), { id: "each" }),
          stat("Tokens", format.count(tokens), { sub: `${format.count(all.prompt_tokens)} in, ${format.count(all.completion_tokens)} out` }),
          stat("Found in the prefix cache", cached, { sub: "of the tokens in" }),
        ]),
      );
    },
  });
}

function trend(page, asked, by) {
  const resolution = select(
    "Resolution",
    RESOLUTIONS.map((value) => ({ value, label: value === "auto" ? "Auto" : `By ${value}` })),
    asked.resolution,
    (value) => page.setQuery({ resolution: value === "auto" ? null : value }),
  );
  return panel(page, {
    title: "Spend over time",
    note: `By ${nameOf(by)}; click a bar to look into it.`,
    source: "cost/series",
    params: { ...asked, by },
    live: true,
    span: 8,
    tools: [resolution],
    empty: () => nothing(page),
    render(data, body) {
      const column = columnOf(by);
      const { times, series } = pivot(data, (row) => (row.rest ? REST : label(row[column])), (row) => dollars(row.cost_nano));
      const whole = new Map();
      for (const row of data.rows) {
        const name = row.rest ? REST : label(row[column]);
        whole.set(name, (whole.get(name) ?? 0n) + nano(row.cost_nano));
      }
      const names = [...series.keys()].filter((name) => name !== REST).sort((a, b) => (whole.get(b) > whole.get(a) ? 1 : -1));
      const lines = names.map((name, place) => ({ label: name, values: series.get(name), tone: TONES[place % TONES.length] }));
      if (series.has(REST)) lines.push({ label: REST, values: series.get(REST), tone: "c7" });
      return timeChart(body, {
        times,
        series: lines,
        stacked: true,
        kind: "bars",
        height: 290,
        format: (value) => money(Math.round(value * 1e9)),
        onPick: (place, name) => zoom(page, data, by, times[place] * 1000, name),
      });
    },
  });
}

/** Into one bar: its time, and the group whose part of it was clicked. */
function zoom(page, data, by, at, name) {
  const until = following(at, data.resolution);
  const change = { since: new Date(at).toISOString(), until: new Date(until).toISOString(), resolution: null };
  if (name && name !== REST) Object.assign(change, filter(page, by, name === label("") ? "" : name));
  page.setQuery(change);
}

function filter(page, by, value) {
  if (by.startsWith("tag:")) return { tag: `${by.slice(4)}=${value}`, skip: null };
  return { ...narrow(page, by, value), skip: null };
}

function spenders(page, asked, by) {
  return panel(page, {
    title: "Top spenders",
    note: `By ${nameOf(by)}; choose one to see only that.`,
    source: "cost/groups",
    params: { ...asked, by },
    live: true,
    span: 4,
    table: false,
    empty: NOTHING,
    render(data, body) {
      const column = columnOf(by);
      const columns = [
        { key: column, label: NAMES[column] ?? by, format: label },
        { key: "cost_nano", label: "Cost", numeric: true, bar: true, format: (value) => h("span", { title: exact(value) }, money(value)) },
        { key: "all_nano", label: "Share", numeric: true, format: (all, row) => format.percent(share(row.cost_nano, all)) },
      ];
      const rows = data.rows.slice(0, 10);
      body.append(table(columns, rows, { caption: "Top spenders", onRow: (row) => page.setQuery(filter(page, by, row[column])) }));
      const left = data.rows[0].all_groups - rows.length;
      if (left > 0) {
        const rest = nano(data.rows[0].all_nano) - sum(rows.map((row) => row.cost_nano));
        body.append(h("p.note", `${format.exact(left)} more: ${money(rest)}. The download has all.`));
      }
    },
  });
}

function requests(page, asked) {
  const skip = Number(page.query.get("skip") ?? 0);
  const turn = (next) => page.setQuery({ skip: next || null });
  return panel(page, {
    title: "Requests",
    note: "The dearest of what is chosen above, with adjustments and credits.",
    source: "cost/requests",
    params: { ...asked, skip },
    wide: true,
    table: false,
    empty: NOTHING,
    render(data, body) {
      const [ended, key, cost] = [
        { key: "event_time", label: "Ended", format: format.time },
        { key: "idempotency_key", label: "Key", fold: true, href: (row) => page.link(`requests/${encodeURIComponent(row.tenant)}/${encodeURIComponent(row.idempotency_key)}`) },
        { key: "cost_nano", label: "Cost", numeric: true, format: exact },
      ];
      const columns = [
        ended,
        ...(page.session.operator ? [{ key: "tenant", label: "Tenant" }] : []),
        key,
        { key: "feature", label: "Feature", format: label },
        { key: "user", label: "User", format: label },
        { key: "model", label: "Model", format: (value, row) => (row.kind === "usage" ? label(value) : row.reason) },
        { key: "outcome", label: "Outcome", format: (value, row) => outcome(value, row.kind) },
        { key: "prompt_tokens", label: "Tokens in", numeric: true, format: format.exact },
        { key: "completion_tokens", label: "Tokens out", numeric: true, format: format.exact },
        cost,
      ];
      const onPhone = matchMedia("(max-width: 700px)").matches;
      body.append(table(onPhone ? [key, cost] : columns, data.rows, { caption: "Requests", dense: true }));
      const before = skip > 0 ? h("button", { type: "button", onclick: () => turn(Math.max(0, skip - PAGE)) }, "Dearer") : null;
      const after = data.rows.length === PAGE ? h("button", { type: "button", onclick: () => turn(skip + PAGE) }, "Cheaper") : null;
      if (before || after) body.append(h("div.cost-pages", before, after));
    },
  });
}

function outcome(value, kind) {
  if (kind !== "usage") return badge(kind, "accent");
  const tones = { succeeded: "good", cancelled: "", rejected: "warn", expired: "warn", failed: "bad", timed_out: "bad" };
  return badge(value.replace("_", " "), tones[value] ?? "");
}

function showBudgets(page, place) {
  const chosen = { row: null };
  const burn = h("div.cost-burn");
  const list = panel(page, {
    title: "Budgets",
    note: "By the ledger; the meter counts what is running, too.",
    source: "cost/budgets",
    span: 6,
    table: false,
    empty: () =>
      empty("No budgets are set", "With one, this shows how much is left, and when it will be gone.", {
        command: `millrace limits set --tenant ${page.query.get("tenant") || (page.session.operator ? "'*'" : page.session.tenant)} --dollars-per-month 500`,
      }),
    render(data, body) {
      if (!chosen.row && data.rows.length) choose(data.rows.find((row) => row.figure === "dollars_per_month") ?? null);
      const columns = [
        { key: "tenant", label: "Whose", fold: true, format: (_, row) => whose(row, page.session.operator) },
        { key: "share", label: "Used", format: (_, row) => used(row) },
        { key: "forecast_nano", label: "By its end", format: (value, row) => h("span.gauge", h("span.num", money(value)), gone(row)) },
      ];
      body.append(table(columns, data.rows, { caption: "Budgets", limit: 12, onRow: (row) => row.figure === "dollars_per_month" && choose(row) }));
    },
  });
  function choose(row) {
    chosen.row = row;
    clear(burn).append(burnDown(page, row));
  }
  choose(null);
  place.append(burn, list);
}

function whose(row, operator) {
  const parts = [
    operator || (row.user === null && row.feature === null && row.api_key === null) ? row.tenant : null,
    row.user === null ? null : `user ${label(row.user)}`,
    row.feature === null ? null : `feature ${label(row.feature)}`,
    row.api_key === null ? null : `key ${label(row.api_key)}`,
  ];
  return parts.filter((part) => part !== null).join(", ");
}

function used({ share: part, used_nano, limit_nano, figure }) {
  const tone = part >= 1 ? "bad" : part >= 0.8 ? "warn" : "";
  const bar = h("span.gauge-bar", { style: { "--share": `${Math.min(1, part) * 100}%` } });
  const per = figure === "dollars_per_day" ? "a day" : "a month";
  return h(
    "span.gauge",
    { dataset: { tone } },
    h("span.gauge-line", bar, h("span.num", format.percent(part, 0))),
    h("span.note.num", `${money(used_nano)} of ${money(limit_nano)} ${per}`),
  );
}

function gone({ share: part, gone_at, basis_days, figure }) {
  if (part >= 1) return badge("used up", "bad");
  if (gone_at !== null) return badge(`gone ${moment(gone_at).split(", ")[figure === "dollars_per_day" ? 1 : 0]}`, "warn");
  return basis_days ? badge("lasts", "good") : h("span.note", "no full day yet");
}

function moment(at) {
  const text = new Date(at).toUTCString(); // Fri, 27 Nov 2026 14:03:00 GMT
  return `${Number(text.slice(5, 7))} ${text.slice(8, 11)}, ${text.slice(17, 22)} UTC`;
}

function burnDown(page, row) {
  const names = ["tenant", "user", "feature", "api_key"].filter((name) => row && row[name] !== null);
  const none = names.filter((name) => row[name] === "").join(",");
  const account = { ...Object.fromEntries(names.map((name) => [name, row[name]])), none };
  return panel(page, {
    title: row ? `Budget of ${whose(row, true)}` : "This month",
    note: row ? "What is left of it, this month." : "What has been spent since its first day.",
    source: "cost/burndown",
    params: account,
    span: 6,
    render(data, body) {
      body.append(h("p.cost-forecast", ...foretold(data)));
      const left = data.about.limit_nano !== null;
      const limit = nano(data.about.limit_nano);
      const value = (used) => (used === null ? null : dollars(left ? limit - nano(used) : nano(used)));
      const was = data.rows.filter((point) => point.kind === "actual");
      const will = data.rows.filter((point) => point.kind === "forecast");
      const rows = [...was, ...will.slice(1)];
      const known = (pick) => rows.map((point, place) => (place < was.length - 1 ? null : value(pick(place === was.length - 1 ? (will[0] ?? point) : point))));
      const lines = [{ label: left ? "Left" : "Spent", values: rows.map((point, place) => (place < was.length ? value(point.used_nano) : null)), tone: "c1", kind: "area" }];
      if (will.length) {
        lines.push({ label: "If it goes on so", values: known((point) => point.used_nano), tone: "c1", dash: true });
        lines.push({ label: "As on the dearest day", values: known((point) => point.high_nano), tone: "c2", dash: true });
        lines.push({ label: "As on the cheapest", values: known((point) => point.low_nano), tone: "c4", dash: true });
      }
      return void timeChart(body, {
        times: rows.map((point) => point.at / 1000),
        series: lines,
        height: 230,
        format: (amount) => money(Math.round(amount * 1e9)),
        limits: left ? [{ value: 0, label: "", tone: "bad" }] : [],
        marks: [{ at: was.at(-1).at / 1000, label: "now" }],
      });
    },
  });
}

/** The forecast in words, with how it was made. */
function foretold({ about }) {
  const used = h("b.num", { title: exact(about.used_nano) }, money(about.used_nano));
  const so = about.limit_nano === null ? [used, " spent. "] : [used, ` of ${money(about.limit_nano)} used. `];
  if (!about.basis_days) return [...so, "A forecast needs one full day to go by."];
  const days = about.basis_days === 1 ? "yesterday's" : `the mean of the last ${about.basis_days} full days`;
  const will = `At ${money(about.daily_nano)} a day, ${days}, it will be ${money(about.forecast_nano)} by the end of the month`;
  if (about.limit_nano === null) return [...so, `${will}.`];
  if (about.gone_at === null) return [...so, `${will}, within the budget.`];
  if (nano(about.used_nano) >= nano(about.limit_nano)) return [...so, h("strong.bad", "It is used up.")];
  return [...so, `${will}: `, h("strong.warn", `gone on ${moment(about.gone_at)}.`)];
}

function savings(page) {
  return panel(page, {
    title: "Saved",
    note: "At list price, to the nano-dollar: the same requests without prefix cache, all on the large model, each run anew.",
    source: "cost/savings",
    wide: true,
    table: false,
    empty: NOTHING,
    render(data, body) {
      const all = (name) => sum(data.rows.map((row) => row[name]));
      const count = (name) => data.rows.reduce((total, row) => total + row[name], 0);
      body.append(
        stats([
          stat("By prefix cache", money(all("cache_nano")), { sub: `${format.count(count("cached"))} tokens`, tone: "good", id: "cache" }),
          stat(`By routing, against always ${data.large}`, money(all("routing_nano")), { sub: `${format.count(count("routed_requests"))} requests`, tone: "good", id: "routing" }),
          ...("duplicates" in data.rows[0] ? [stat("By answering again without a run", money(all("duplicate_nano")), { sub: `${format.exact(count("duplicates"))} duplicates`, tone: "good", id: "duplicates" })] : []),
          stat("Lost to second runs", money(all("waste_nano")), { sub: `${format.exact(count("waste_runs"))} runs after crashes, billed to nobody`, id: "waste" }),
        ]),
      );
      if (data.rows.length < 2) return;
      const columns = [
        { key: "tenant", label: "Tenant" },
        { key: "requests", label: "Requests", numeric: true, format: format.exact },
        { key: "cache_nano", label: "By prefix cache", numeric: true, format: money },
        { key: "routing_nano", label: "By routing", numeric: true, bar: true, format: money },
        { key: "waste_nano", label: "Lost to second runs", numeric: true, format: money },
      ];
      body.append(table(columns, data.rows, { caption: "Savings by tenant", dense: true }));
    },
  });
}

function nothing(page) {
  const filtered = [...FILTERS, "none", "until"].some((name) => page.query.has(name));
  if (filtered) return empty("Nothing here", "No request of this period is all that: take a filter away.");
  return empty("Nothing was spent in this period", "Choose a longer one, or send requests. This sends real traffic through all of it:", {
    command: REPLAY,
  });
}

function columnOf(by) {
  return by.startsWith("tag:") ? "tag" : by;
}

function nameOf(by) {
  return by.startsWith("tag:") ? `tag ${by.slice(4)}` : (NAMES[by] ?? by).replace(/^[A-Z](?![A-Z])/, (first) => first.toLowerCase());
}

// Limits: how much of each is used, the nearest to its limit first.

import { badge, empty, format, h, panel, segmented } from "/static/js/kit.js";

const MEASURES = {
  tokens_per_minute: "tokens a minute",
  tokens_per_day: "tokens a day",
  requests_per_minute: "requests a minute",
  concurrent_requests: "requests at once",
  dollars_per_day: "a day",
  dollars_per_month: "a month",
};
const AGAIN_MS = 5000; // a bucket leaks also when nothing comes

export default {
  title: "Limits",
  css: true,
  mount(page) {
    const which = page.query.get("show") ?? "limited";
    const choices = [
      { value: "limited", label: "Limited" },
      { value: "all", label: "All counters" },
    ];
    const card = panel(page, {
      title: "Used of each limit",
      note: "as the meters say now; what runs counts with what it reserved",
      source: "limits/usage",
      wide: true,
      live: true,
      table: false,
      tools: [segmented("Which", choices, which, (show) => page.setQuery({ show: show === "limited" ? null : show }))],
      render: (data, body) => body.append(accounts(page, data, which)),
      empty: () => nothing(),
    });
    page.root.append(card);
    const again = setInterval(() => !document.hidden && card.reload(), AGAIN_MS);
    page.signal.addEventListener("abort", () => clearInterval(again));
  },
};

function accounts(page, data, which) {
  const groups = new Map();
  for (const row of data.rows) {
    if (which === "limited" && row.limit === null) continue;
    const whose = name(row);
    groups.set(whose, [...(groups.get(whose) ?? []), row]);
  }
  if (!groups.size) return nothing();
  const rest = data.complete ? null : h("p.note", "Others are further from their limits: choose a tenant to see all of its own.");
  return h("div", h("div.accounts", [...groups].map(([whose, rows]) => account(page, whose, rows))), rest);
}

function account(page, whose, rows) {
  const [first] = rows;
  const scope = ["api_key", "feature", "user"].find((kind) => first[kind] !== null) ?? "tenant";
  return h(
    "article.account-card",
    h("header", h("h3", whose), badge(scope === "api_key" ? "API key" : scope)),
    h("div", rows.map(measure)),
  );
}

function measure(row) {
  const money = row.measure.startsWith("dollars");
  const show = money ? (nano) => format.money(nano).replace(/(\.\d\d)0+$/, "$1") : format.count;
  const tone = row.share === null ? "" : row.share >= 1 ? "bad" : row.share >= 0.8 ? "warn" : "";
  const label = `${MEASURES[row.measure] ?? row.measure}`;
  const of = row.limit === null ? "not limited" : `of ${show(row.limit)}`;
  const track = h(
    "div.track",
    { role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(Math.min(1, row.share ?? 0) * 100)) },
    h("span", { style: { "--share": `${Math.min(1, row.share ?? 0) * 100}%` } }),
  );
  return h(
    "div.measure",
    { dataset: { tone, measure: row.measure } },
    h("span.what", h("b.num", show(row.used)), ` ${of} ${label}`),
    h("span.num.share", row.share === null ? "" : format.percent(row.share)),
    row.limit === null ? null : track,
    row.reset_ms ? h("span.back", `all back in ${format.seconds(Math.ceil(row.reset_ms / 1000))}`) : null,
  );
}

function name(row) {
  const parts = [["user", row.user], ["feature", row.feature], ["API key", row.api_key]].filter(([, value]) => value !== null);
  return [row.tenant, ...parts.map(([kind, value]) => (value === "" ? `no ${kind}` : value))].join(" · ");
}

function nothing() {
  return empty("Nothing is limited and used yet", "Counters appear with a tenant's first request. Limits hold everywhere within a second:", {
    command: "millrace limits set --user '*' --tokens-per-day 200k",
  });
}

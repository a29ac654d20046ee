// Routing: where the router sent requests, what that cost and how good it was, beside always-large.

import { label } from "/static/js/filters.js";
import { badge, barChart, empty, format, h, panel, stat, stats, table, timeChart } from "/static/js/kit.js";
import { dollars, exact, money, nano, share, sum } from "/static/js/nano.js";
import { pivot } from "/static/js/series.js";

const FEW = 30; // judgements or comparisons; fewer say little

export default {
  title: "Routing",
  css: true,
  period: "30d",
  mount(page) {
    page.root.append(figures(page), money_(page), large(page), scores(page), routes(page), escalations(page), shadows(page));
  },
};

function figures(page) {
  return panel(page, {
    title: "What routing is worth",
    note: "Of requests that left the choice to the router: model auto, auto:cheap or auto:best.",
    source: "routing/shares",
    live: true,
    wide: true,
    table: false,
    empty: nothing,
    render(data, body) {
      const requests = total(data.rows, "requests");
      const toLarge = total(data.rows.filter((row) => row.model === data.large), "requests");
      const [cost, always] = ["cost_nano", "large_nano"].map((name) => sum(data.rows.map((row) => row[name])));
      const [judged, good] = ["judged", "good"].map((name) => total(data.rows, name));
      body.append(
        stats([
          stat("Routed requests", format.exact(requests), { id: "requests" }),
          stat(`Sent to ${data.large}`, requests ? format.percent(toLarge / requests) : "–", { id: "large" }),
          stat("Cost", h("span", { title: exact(cost) }, money(cost)), { sub: `always ${data.large}: ${money(always)}`, id: "cost" }),
          stat("Saved", money(always - cost), { sub: `${format.percent(share(always - cost, always))} of always ${data.large}`, tone: always > cost ? "good" : "", id: "saved" }),
          stat("Judged right", judged ? format.percent(good / judged) : "–", { sub: judged ? `of ${format.exact(judged)} answers with feedback` : "no feedback yet", id: "right" }),
        ]),
      );
    },
  });
}

function money_(page) {
  return panel(page, {
    title: "Cost against always large",
    note: "The same requests, with the tokens that they really used.",
    source: "routing/over-time",
    live: true,
    span: 6,
    empty: "Nothing in this period.",
    render(data, body) {
      const line = (name) => pivot(data, () => name, (row) => dollars(row[name]));
      const [was, always] = [line("spent_nano"), line("large_nano")];
      return timeChart(body, {
        times: was.times,
        series: [
          { label: `Always ${data.large}`, values: always.series.get("large_nano"), tone: "c7" },
          { label: "Spent", values: was.series.get("spent_nano"), tone: "c1", kind: "area" },
        ],
        format: (value) => money(Math.round(value * 1e9)),
      });
    },
  });
}

function large(page) {
  return panel(page, {
    title: "Share of the large model",
    note: "Of routed requests that ran.",
    source: "routing/over-time",
    live: true,
    span: 6,
    empty: "Nothing in this period.",
    render(data, body) {
      const { times, series } = pivot(data, () => "share", (row) => (row.requests ? row.large_requests / row.requests : null), null);
      return timeChart(body, {
        times,
        series: [{ label: data.large, values: series.get("share"), tone: "c3", kind: "area" }],
        format: (value) => format.percent(value, 0),
        most: 1,
      });
    },
  });
}

function scores(page) {
  return panel(page, {
    title: "Scores",
    note: "How complex the router took requests for auto to be: 0, the small model suffices, to 1.",
    source: "routing/scores",
    live: true,
    wide: true,
    empty: "Nothing in this period.",
    render(data, body) {
      const models = [...new Set(data.rows.map((row) => row.model))].sort().reverse();
      const series = models.map((model, place) => ({ label: model, values: counts(data, model), tone: place ? "c3" : "c1" }));
      const [rule, at] = Object.entries(data.thresholds)[0] ?? [];
      const labels = Array.from({ length: data.bins }, (_, bin) => (bin / data.bins).toFixed(2).replace(/0$/, ""));
      const threshold = rule === undefined ? undefined : { at: Math.min(at, 1), label: `${rule}: ${upTo(data, rule)}` };
      const chart = barChart(body, { labels, series, stacked: true, threshold, height: 230 });
      body.append(h("p.note.routing-policy", policy(data)));
      return chart;
    },
  });
}

function counts(data, model) {
  const values = new Array(data.bins).fill(0);
  for (const row of data.rows) if (row.model === model) values[row.bin] = row.requests;
  return values;
}

/** A threshold that grows with what a request costs more beyond the rule is drawn for the cost that it was measured at. */
function upTo({ thresholds, references }, rule) {
  const cost = references[rule];
  const at = Number(thresholds[rule].toPrecision(3));
  return cost ? `up to ${at} at ${money(cost)} extra` : `up to ${at}`;
}

function policy(data) {
  const rules = Object.keys(data.thresholds).map((rule) => `${rule} takes scores ${upTo(data, rule)}`);
  const said = rules.length ? `${rules.join(", ")}.` : "No rule goes by the score.";
  const dearer = Object.keys(data.references).length
    ? " Extra is what the next model is estimated to cost more: twice that, twice the score, so both models lie on both sides of the line."
    : "";
  return `The policy in force, ${data.policy}: ${said}${dearer} Requests of an earlier policy are shown beside its threshold too; conversations may stay on the model of their turn before.`;
}

function routes(page) {
  return panel(page, {
    title: "By route",
    note: "Right: feedback of 0.5 and more, of those that were judged.",
    source: "routing/shares",
    live: true,
    wide: true,
    table: false,
    empty: "Nothing in this period.",
    render(data, body) {
      const requests = total(data.rows, "requests");
      const columns = [
        { key: "route", label: "Route", format: label },
        { key: "model", label: "Model" },
        { key: "requests", label: "Requests", numeric: true, format: format.exact },
        { key: "requests", label: "Share", numeric: true, bar: true, format: (value) => format.percent(value / requests) },
        { key: "cost_nano", label: "Cost", numeric: true, format: money },
        { key: "cost_nano", label: "Per request", numeric: true, format: (value, row) => (row.requests ? money(nano(value) / BigInt(row.requests)) : "–") },
        { key: "large_nano", label: `At ${data.large}`, numeric: true, format: money },
        { key: "large_nano", label: "Saved", numeric: true, format: (value, row) => money(nano(value) - nano(row.cost_nano)) },
        { key: "good", label: "Right", numeric: true, format: (value, row) => outOf(value, row.judged) },
      ];
      body.append(table(columns, data.rows, { caption: "By route" }));
    },
  });
}

function escalations(page) {
  return panel(page, {
    title: "Escalations",
    note: "First answers that didn't stand, and were given again by a larger model. They are counted, and billed to nobody.",
    source: "routing/escalations",
    live: true,
    wide: true,
    table: false,
    empty: () =>
      empty("Nothing was escalated", "A rule with a cascade lets the small model answer first, and asks the large one when that answer looks unsure: docs/routing.md."),
    render(data, body) {
      const columns = [
        { key: "route", label: "Route", format: label },
        { key: "model", label: "First answer by" },
        { key: "escalated", label: "Why" },
        { key: "attempts", label: "Attempts", numeric: true, format: format.exact },
        { key: "rate", label: "Of the route's requests", numeric: true, bar: true, format: (value) => format.percent(value) },
        { key: "unbilled_nano", label: "Not billed", numeric: true, format: money },
      ];
      body.append(table(columns, data.rows, { caption: "Escalations" }));
    },
  });
}

function shadows(page) {
  return panel(page, {
    title: "Shadow runs",
    note: "Another model ran answered requests too, to learn which answers it would have given. Nobody saw them, and nobody pays for them.",
    source: "routing/shadows",
    live: true,
    wide: true,
    table: false,
    empty: () => empty("No other model ran along", "A rule with a shadow lets one run a share of its answered requests: docs/routing.md."),
    render(data, body) {
      const columns = [
        { key: "route", label: "Route", format: label },
        { key: "shadow_of", label: "Answered by" },
        { key: "model", label: "Ran along" },
        { key: "runs", label: "Runs", numeric: true, format: format.exact },
        { key: "same", label: "Said the same", numeric: true, format: (value, row) => outOf(value, row.compared) },
        { key: "not_billed_nano", label: "Not billed", numeric: true, format: money },
      ];
      body.append(table(columns, data.rows, { caption: "Shadow runs" }));
    },
  });
}

function outOf(count, all) {
  if (!all) return "–";
  const said = `${format.percent(count / all)} of ${format.exact(all)}`;
  return all < FEW ? h("span", said, " ", badge("few")) : said;
}

function total(rows, name) {
  return rows.reduce((all, row) => all + row[name], 0);
}

function nothing() {
  return empty("The router decided nothing in this period", "Ask for model auto, and the policy chooses: docs/routing.md. Choose a longer period to see earlier days.");
}

// Latency: how long callers wait, for a first token, between tokens, in the queue and in all; tokens per second.

import { chips, filtersOf, label, NAMES, narrow } from "/static/js/filters.js";
import { empty, format, h, panel, REPLAY, segmented, select, table, timeChart } from "/static/js/kit.js";
import { pivot } from "/static/js/series.js";

const FILTERS = ["model", "lane"];
const NOTHING = "Nothing in this period.";
const SPLITS = [
  { value: "", label: "Percentiles" },
  { value: "model", label: "By model" },
  { value: "lane", label: "By lane" },
];
const NEVER = "never ran";
const QUANTILES = ["p50", "p95", "p99"];
const QUANTILE_TONES = { p50: "c1", p95: "c2", p99: "c5" };
const MEASURES = [
  ["ttft", "Time to first token", "From acceptance in Kafka to the first token."],
  ["gap", "Between tokens", "Each answer's mean: the pace that a reader sees."],
  ["queue", "Queue", "From acceptance until the engine began."],
  ["total", "Total", "From acceptance to the last token."],
];

export default {
  title: "Latency",
  css: true,
  period: true,
  mount(page) {
    const split = page.query.get("split") ?? "";
    const quantile = page.query.get("quantile") ?? "p95";
    const asked = { ...filtersOf(page, FILTERS), split };
    page.root.append(controls(page, split, quantile));
    for (const measure of MEASURES) page.root.append(chart(page, measure, asked, quantile));
    page.root.append(pace(page, asked), whole(page));
  },
};

function controls(page, split, quantile) {
  const one = select(
    "Percentile",
    QUANTILES.map((value) => ({ value, label: value })),
    quantile,
    (value) => page.setQuery({ quantile: value }),
  );
  return h(
    "div.latency-controls",
    segmented("Lines", SPLITS, split, (value) => page.setQuery({ split: value || null })),
    split ? one : null,
    chips(page, FILTERS, (change) => page.setQuery(change)),
  );
}

function chart(page, [measure, title, note], asked, quantile) {
  return panel(page, {
    title,
    note,
    source: "latency/quantiles",
    params: { ...asked, measure },
    live: true,
    span: 6,
    empty: measure === MEASURES[0][0] ? () => nothing(page) : NOTHING,
    render(data, body) {
      const { times, series } = data.split ? bySplit(data, quantile) : byQuantile(data);
      return timeChart(body, { times, series, format: format.ms, height: 210 });
    },
  });
}

function byQuantile(data) {
  const found = QUANTILES.map((name) => ({ name, ...pivot(data, () => name, (row) => row[name], null) }));
  const series = found.map(({ name, series: values }) => ({ label: name, values: values.get(name) ?? [], tone: QUANTILE_TONES[name] }));
  return { times: found[0].times, series };
}

function bySplit(data, quantile) {
  const { times, series } = pivot(data, (row) => named(row, data.split), (row) => row[quantile], null);
  const known = [...series].filter(([, values]) => values.some((value) => value !== null)).sort(last);
  return { times, series: known.map(([name, values], place) => ({ label: `${name}, ${quantile}`, values, tone: tone(name, place) })) };
}

/** By name, what never ran at the end and grey: a model has one colour in every chart. */
function last([one], [other]) {
  return (one === NEVER) - (other === NEVER) || one.localeCompare(other);
}

function tone(name, place) {
  return name === NEVER ? "c7" : `c${(place % 6) + 1}`;
}

/** Without a model are requests that never ran. */
function named(row, split) {
  return split === "model" && row.model === "" ? NEVER : label(row[split]);
}

function pace(page, asked) {
  return panel(page, {
    title: "Tokens per second",
    note: "Out of all engines, mean of each slot; an answer's tokens count when it ends.",
    source: "latency/pace",
    params: asked,
    live: true,
    wide: true,
    empty: NOTHING,
    render(data, body) {
      const { times, series } = pivot(data, (row) => (data.split ? named(row, data.split) : "Tokens"), (row) => row.tokens_per_second);
      const lines = [...series].filter(([, values]) => values.some((value) => value > 0)).sort(last);
      return timeChart(body, {
        times,
        series: lines.map(([name, values]) => ({ label: name, values })),
        stacked: lines.length > 1,
        kind: "area",
        format: format.rate,
        height: 190,
      });
    },
  });
}

function whole(page) {
  return panel(page, {
    title: "By model and lane",
    note: "The whole period: half of the requests were within p50, nineteen of twenty within p95. Choose a line to see only that.",
    source: "latency/whole",
    live: true,
    wide: true,
    table: false,
    empty: NOTHING,
    render(data, body) {
      const pairs = MEASURES.map(([measure, title]) => ({
        key: `${measure}_p50`,
        label: `${title}, p50 / p95`,
        numeric: true,
        format: (value, row) => (value === null ? "–" : `${format.ms(value)} / ${format.ms(row[`${measure}_p95`])}`),
      }));
      const columns = [
        { key: "model", label: NAMES.model, format: (value) => value || NEVER },
        { key: "lane", label: NAMES.lane },
        { key: "requests", label: "Requests", numeric: true, format: format.exact },
        ...pairs,
        { key: "completion_tokens", label: "Tokens out", numeric: true, format: format.count },
      ];
      const onRow = ({ model, lane }) => page.setQuery({ lane, ...narrow(page, "model", model) });
      body.append(table(columns, data.rows, { caption: "By model and lane", onRow }));
    },
  });
}

/** Said once, by the first chart. */
function nothing(page) {
  const filtered = [...FILTERS, "none"].some((name) => page.query.has(name));
  if (filtered) return empty("Nothing here", "No request of this period is that: take a filter away.");
  return empty("No request ended in this period", "Choose a longer one, or send requests. This sends real traffic through all of it:", {
    command: REPLAY,
  });
}

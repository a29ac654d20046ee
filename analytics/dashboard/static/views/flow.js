// Flow: the pipeline as a picture. Its figures come by the event `flow`; nothing is drawn anew but what changed.

import { badge, copyable, empty, format, get, h, REPLAY, sparkline, stat, stats, svg, table, timeChart } from "/static/js/kit.js";

const STAGES = {
  ingress: { title: "Ingress", about: "answers HTTP", topic: "requests" },
  dedupe: { title: "Dedupe", about: "lets each key through once", topic: "admitted" },
  meter: { title: "Meter and route", about: "holds limits, picks a model" },
  completions: { title: "Outcomes", about: "in the last minute" },
  settle: { title: "Settle", about: "first outcome wins", topic: "usage" },
  sink: { title: "Ledger", about: "each event once" },
  "dead-letters": { title: "Dead letters", about: "put aside", topic: "dead-letters" },
};

export default {
  title: "Flow",
  css: true,
  tenants: false,
  mount(page) {
    const shown = { nodes: new Map(), shape: "", edges: [] };
    const notice = h("div.notice", { role: "status" }, h("div", badge("Looking"), "Kafka and the ledger are asked."));
    const figures = stats(["Accepted", "Finished", "In flight", "First token, p99", "Tokens out", "Failed"].map((label) => stat(label, "–")));
    const guide = h("div.guide", { hidden: true });
    const picture = h("section.flow.panel", { "aria-label": "The pipeline" });
    const workers = h("section.panel", h("header.panel-head", h("div.panel-titles", h("h2", "Workers"), h("p.note", "as their heartbeats tell"))), h("div.panel-body"));
    const traffic = h("section.panel", h("header.panel-head", h("div.panel-titles", h("h2", "Through the log"), h("p.note", "records a second, the last five minutes"))), h("div.panel-body"));
    page.root.append(notice, guide, figures, picture, traffic, workers);
    const redraw = new ResizeObserver(() => drawEdges(picture, shown));
    redraw.observe(picture);
    page.signal.addEventListener("abort", () => redraw.disconnect());
    const tell = (seen) => {
      showNotice(notice, seen);
      showGuide(guide, seen);
      figures.replaceChildren(...headline(seen));
      showPicture(page, picture, shown, seen);
      showTraffic(traffic, seen);
      showWorkers(workers.querySelector(".panel-body"), seen.workers);
    };
    page.live("flow", tell);
    get("flow/now", {}, page.signal).then(({ rows, ...seen }) => tell({ nodes: rows, ...seen }), (error) => {
      if (error.name !== "AbortError") notice.replaceChildren(badge("Problem", "bad"), h("span", error.message));
    });
  },
};

function showNotice(notice, seen) {
  const hurts = [...seen.nodes, ...(seen.workers ?? [])].filter((one) => one.tone).sort((a, b) => (a.tone === "bad" ? 0 : 1) - (b.tone === "bad" ? 0 : 1));
  notice.replaceChildren();
  if (seen.problem) notice.append(h("div", badge("Problem", "bad"), seen.problem));
  for (const one of hurts.slice(0, 4)) notice.append(h("div", badge(name(one), one.tone), one.why));
  if (!seen.problem && !hurts.length) notice.append(h("div", badge("All well", "good"), "Nothing waits longer than two seconds, and nothing fails."));
}

function name(one) {
  if (one.worker) return `${one.worker}, ${one.model}`;
  if (one.lane) return `${one.model}, ${one.lane}`;
  return STAGES[one.id]?.title ?? one.id;
}

function showGuide(guide, seen) {
  const ingress = seen.nodes.find((node) => node.id === "ingress");
  const fresh = !seen.problem && ingress?.records === 0;
  guide.hidden = !fresh;
  if (!fresh || guide.childElementCount) return;
  const replay = copyable(REPLAY);
  guide.append(
    h("section.panel", empty("No request has come yet", "Make a key, then send a request to the API: it shows up here at once. Or replay real traffic:", { command: "millrace keys create --tenant demo", action: replay })),
  );
}

function headline(seen) {
  const by = Object.fromEntries(seen.nodes.map((node) => [node.id, node]));
  const lanes = seen.nodes.filter((node) => node.lane);
  const known = [by.dedupe, by.meter, by.settle, ...lanes].map((node) => node?.lag).filter((lag) => lag !== null && lag !== undefined);
  const errors = (seen.ended?.failed ?? 0) + (seen.ended?.expired ?? 0);
  return [
    stat("Accepted", format.rate(by.ingress?.rate)),
    stat("Finished", format.rate(by.workers?.rate)),
    stat("In flight", known.length ? format.exact(known.reduce((sum, lag) => sum + lag, 0)) : "–", { sub: "between the log's topics" }),
    stat("First token, p99", format.ms(seen.ttft_p99_ms), { sub: "last minute" }),
    stat("Tokens out", format.rate((seen.completion_tokens ?? 0) / seen.window_seconds), { sub: "last minute" }),
    stat("Failed", format.exact(errors), { sub: `last minute; ${format.exact(seen.ended?.rejected ?? 0)} refused`, tone: errors ? "bad" : "" }),
  ];
}

function showPicture(page, picture, shown, seen) {
  const lanes = seen.nodes.filter((node) => node.lane);
  const shape = lanes.map((node) => node.id).join();
  if (shape !== shown.shape) build(page, picture, shown, lanes);
  shown.shape = shape;
  const history = Object.fromEntries(["requests", "admitted", "completions", "usage"].map((topic) => [topic, seen.history.map((point) => point.rates[topic] ?? 0)]));
  for (const node of seen.nodes) fill(shown.nodes.get(node.id), node, history);
  fillOutcomes(shown.nodes.get("completions"), seen);
  for (const model of new Set(lanes.map((node) => node.model))) {
    fillWorkers(shown.nodes.get(`workers:${model}`), (seen.workers ?? []).filter((one) => one.model === model), lanes.filter((node) => node.model === model));
  }
  shown.rates = Object.fromEntries(seen.nodes.map((node) => [node.id, node.rate ?? 0]));
  drawEdges(picture, shown);
}

function build(page, picture, shown, lanes) {
  picture.replaceChildren(svg("svg", { class: "edges", "aria-hidden": "true" }));
  shown.nodes.clear();
  const stage = (id, extra = []) => {
    const { title, about } = STAGES[id];
    const parts = { rate: h("span.num"), tone: h("span.tone"), facts: h("dl"), spark: null };
    const titled = id === "dead-letters" ? h("a", { href: "/dead-letters" }, title) : title;
    parts.element = h("article.node", { dataset: { id } }, h("header", h("h3", titled), parts.tone), h("p.about", about), h("div.rate", parts.rate), h("div.spark-place"), parts.facts, extra);
    shown.nodes.set(id, parts);
    return parts.element;
  };
  const models = [...new Set(lanes.map((node) => node.model))];
  const block = models.flatMap((model) => [
    h("div.lanes", lanes.filter((node) => node.model === model).map((node) => laneNode(shown, node))),
    workersNode(shown, model),
  ]);
  picture.append(
    h("div.path", stage("ingress"), stage("dedupe"), stage("meter")),
    h("div.engine", block),
    h("div.path.back", stage("dead-letters"), stage("sink"), stage("settle")),
    h("div.ends", stage("completions")),
  );
  shown.edges = [
    ["ingress", "dedupe", "requests"],
    ["dedupe", "meter", "admitted"],
    ...lanes.map((node) => ["meter", node.id, ""]),
    ...lanes.map((node) => [node.id, `workers:${node.model}`, ""]),
    ...models.map((model) => [`workers:${model}`, "completions", ""]),
    ["completions", "settle", "completions"],
    ["settle", "sink", "usage"],
  ];
}

function laneNode(shown, node) {
  const parts = { rate: h("span.num"), tone: h("span.tone"), facts: h("dl") };
  parts.element = h("article.node.lane", { dataset: { id: node.id } }, h("header", h("h3", `${node.model} · ${node.lane}`), h("div.rate", parts.rate), parts.tone), parts.facts);
  shown.nodes.set(node.id, parts);
  return parts.element;
}

function workersNode(shown, model) {
  const parts = { about: h("p.about"), bars: h("div.bars"), facts: h("dl"), tone: h("span.tone") };
  parts.element = h("article.node.workers", { dataset: { id: `workers:${model}` } }, h("header", h("h3", `Workers: ${model}`), parts.tone), parts.about, parts.bars, parts.facts);
  shown.nodes.set(`workers:${model}`, parts);
  return parts.element;
}

function fill(parts, node, history) {
  if (!parts) return;
  parts.element.dataset.tone = node.tone;
  parts.tone.replaceChildren(...(node.tone ? [h("span.mark", { title: node.why, role: "img", "aria-label": node.why }, "!")] : []));
  if (parts.rate) parts.rate.textContent = node.id === "dead-letters" ? format.exact(node.records) : format.rate(node.rate);
  const facts = [];
  if (node.lag !== null && node.id !== "ingress") facts.push([node.lane ? "in lane" : "lag", format.exact(node.lag)]);
  if (node.p99_ms !== null) facts.push([node.lane ? "wait p99" : "p99", format.ms(node.p99_ms)]);
  if (node.errors !== null) facts.push([node.id === "meter" ? "refused" : "failed", format.exact(node.errors)]);
  parts.facts.replaceChildren(...facts.map(([label, value]) => h("div", h("dt", label), h("dd.num", value))));
  const topic = STAGES[node.id]?.topic;
  const place = parts.element.querySelector(".spark-place");
  if (place && history[topic]?.length > 1) {
    if (parts.spark) parts.spark.update(history[topic]);
    else place.append((parts.spark = sparkline(history[topic])));
  }
}

function fillOutcomes(parts, seen) {
  const ended = seen.ended ?? {};
  parts.rate.textContent = format.exact(ended.ended ?? 0);
  const bad = (ended.failed ?? 0) + (ended.expired ?? 0);
  const facts = [["succeeded", ended.succeeded], ["failed, expired", bad], ["refused", ended.rejected], ["cancelled", ended.cancelled], ["total p99", null]];
  parts.facts.replaceChildren(
    ...facts.map(([label, value]) => h("div", h("dt", label), h("dd.num", { dataset: { tone: label.startsWith("failed") && value ? "bad" : "" } }, value === null ? format.ms(seen.total_p99_ms) : format.exact(value ?? 0)))),
  );
}

function fillWorkers(parts, workers, lanes) {
  const live = workers.filter((one) => one.tone !== "bad");
  const worst = workers.find((one) => one.tone === "bad") ?? workers.find((one) => one.tone);
  parts.element.dataset.tone = worst?.tone ?? "";
  parts.tone.replaceChildren(...(worst ? [h("span.mark", { title: worst.why, role: "img", "aria-label": worst.why }, "!")] : []));
  const sum = (key) => live.reduce((total, one) => total + (one[key] ?? 0), 0);
  parts.about.textContent = workers.length ? `${live.length} of ${workers.length} beating, ${workers[0].engine}` : "no heartbeat";
  const cache = live.map((one) => one.kv_used).filter((one) => one !== null && one !== undefined);
  const bars = [bar("batch", live.length ? sum("running") / Math.max(1, sum("room")) : null, live.length ? `${format.exact(sum("running"))} of ${format.exact(sum("room"))}` : "–")];
  if (cache.length) bars.push(bar("KV cache", Math.max(...cache), format.percent(Math.max(...cache))));
  parts.bars.replaceChildren(...bars);
  const slowest = Math.max(...lanes.map((node) => node.run_p99_ms ?? -1));
  const facts = [["tokens", format.rate(sum("decode_tokens_per_second"))], ["run p99", slowest < 0 ? "–" : format.ms(slowest)], ["failed", format.exact(sum("failed"))]];
  parts.facts.replaceChildren(...facts.map(([label, value]) => h("div", h("dt", label), h("dd.num", value))));
}

function bar(label, share, text) {
  const tone = share !== null && share >= 0.95 ? "warn" : "";
  return h("div.meter", { dataset: { tone } }, h("span", label), h("span.num", text), h("span.track", h("span.full", { style: { "--share": `${Math.min(1, share ?? 0) * 100}%` } })));
}

/** Arrows from where the cards are now: across where there is room, down where there isn't. */
function drawEdges(picture, shown) {
  const frame = picture.querySelector(".edges");
  if (!frame || !shown.edges.length) return;
  const origin = picture.getBoundingClientRect();
  frame.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  frame.replaceChildren(
    ...shown.edges.flatMap(([from, to, label]) => {
      const places = [from, to].map((id) => shown.nodes.get(id)?.element.getBoundingClientRect());
      if (!places[0] || !places[1]) return [];
      const between = [...shown.nodes.values()].some(({ element }) => stands(element.getBoundingClientRect(), ...places));
      if (between && to !== "completions") return [];
      const source = to.startsWith("work:") ? to : from;
      const flowing = (shown.rates?.[source] ?? 0) > 0 || from.startsWith("workers:") || from === "completions";
      const moving = flowing && (shown.rates?.workers > 0 || shown.rates?.ingress > 0);
      return between ? around(...places, origin, moving) : edge(...places, origin, label, moving);
    }),
  );
}

function edge(a, b, origin, label, flowing) {
  const mid = (box) => ({ x: (box.left + box.right) / 2 - origin.left, y: (box.top + box.bottom) / 2 - origin.top });
  let from;
  let to;
  let path;
  if (b.left >= a.right - 1 || b.right <= a.left + 1) {
    const right = b.left >= a.right - 1;
    from = { x: (right ? a.right : a.left) - origin.left, y: clamp(mid(b).y, a, origin) };
    to = { x: (right ? b.left : b.right) - origin.left, y: mid(b).y };
    const bend = (from.x + to.x) / 2;
    path = `M${from.x} ${from.y}C${bend} ${from.y} ${bend} ${to.y} ${to.x} ${to.y}`;
  } else {
    const down = b.top >= a.bottom - 1;
    const x = Math.min(Math.max(mid(a).x, b.left - origin.left + 12), b.right - origin.left - 12);
    from = { x, y: (down ? a.bottom : a.top) - origin.top };
    to = { x, y: (down ? b.top : b.bottom) - origin.top };
    path = `M${from.x} ${from.y}L${to.x} ${to.y}`;
  }
  const line = svg("path", { d: path, class: flowing ? "edge flowing" : "edge" });
  const text = label && Math.abs(to.x - from.x) > 50 ? [svg("text", { x: (from.x + to.x) / 2, y: Math.min(from.y, to.y) - 7, "text-anchor": "middle" }, label)] : [];
  return [line, head(from, to, flowing), ...text];
}

/** Whether a card is in the way of an arrow that goes down. */
function stands(box, a, b) {
  return box.top >= a.bottom - 1 && box.bottom <= b.top + 1 && box.left < a.right && box.right > a.left && b.left < a.right && b.right > a.left;
}

/** Down along the right side. */
function around(a, b, origin, flowing) {
  const [x, y] = [a.right - origin.left, (a.top + a.bottom) / 2 - origin.top];
  const to = { x: b.right - origin.left, y: (b.top + b.bottom) / 2 - origin.top };
  const out = Math.max(x, to.x) + 13;
  const path = `M${x} ${y}H${out - 6}Q${out} ${y} ${out} ${y + 6}V${to.y - 6}Q${out} ${to.y} ${out - 6} ${to.y}H${to.x}`;
  return [svg("path", { d: path, class: flowing ? "edge flowing" : "edge" }), head({ x: out, y: to.y }, to, flowing)];
}

function clamp(y, box, origin) {
  return Math.min(Math.max(y, box.top - origin.top + 14), box.bottom - origin.top - 14);
}

function head(from, to, flowing) {
  const across = Math.abs(to.x - from.x) > Math.abs(to.y - from.y) || to.x !== from.x;
  const d = across
    ? `M${to.x + (to.x > from.x ? -6 : 6)} ${to.y - 4}L${to.x} ${to.y}L${to.x + (to.x > from.x ? -6 : 6)} ${to.y + 4}`
    : `M${to.x - 4} ${to.y + (to.y > from.y ? -6 : 6)}L${to.x} ${to.y}L${to.x + 4} ${to.y + (to.y > from.y ? -6 : 6)}`;
  return svg("path", { d, class: flowing ? "arrow flowing" : "arrow" });
}

function showTraffic(panel, seen) {
  const body = panel.querySelector(".panel-body");
  const times = seen.history.map((point) => point.at / 1000);
  if (times.length < 2) {
    if (!panel.chart) body.replaceChildren(empty("", seen.problem || "Two looks at the log are needed: a moment."));
    return;
  }
  const values = (topic) => seen.history.map((point) => point.rates[topic] ?? 0);
  const work = seen.history.map((point) => Object.entries(point.rates).reduce((sum, [topic, rate]) => sum + (topic.startsWith("work.") ? rate : 0), 0));
  const spec = {
    times,
    series: [
      { label: "requests", values: values("requests"), tone: "c1" },
      { label: "work", values: work, tone: "c2" },
      { label: "completions", values: values("completions"), tone: "c4" },
      { label: "dead letters", values: values("dead-letters"), tone: "bad" },
    ],
    format: format.rate,
    height: 200,
  };
  if (panel.chart) panel.chart.update(spec);
  else {
    body.replaceChildren();
    panel.chart = timeChart(body, spec);
  }
}

function showWorkers(body, workers = []) {
  if (!workers.length) {
    body.replaceChildren(empty("No worker is beating", "Start one, on this machine or another:", { command: "millrace worker" }));
    return;
  }
  const columns = [
    { key: "worker", label: "Worker", format: (value, row) => [value, row.tone ? badge(row.tone === "bad" ? "silent" : "full", row.tone) : ""].flat() },
    { key: "model", label: "Model", format: (value, row) => `${value} ${row.model_version}` },
    { key: "engine", label: "Engine" },
    { key: "running", label: "Batch", numeric: true, format: (value, row) => `${format.exact(value)} of ${format.exact(row.room)}` },
    { key: "waiting", label: "Waiting", numeric: true, format: format.exact },
    { key: "kv_used", label: "KV cache", numeric: true, format: (value) => format.percent(value) },
    { key: "prefill_tokens_per_second", label: "Prompt tokens", numeric: true, format: format.rate },
    { key: "decode_tokens_per_second", label: "Answer tokens", numeric: true, format: format.rate },
    { key: "ended", label: "Ended", numeric: true, format: format.exact },
    { key: "failed", label: "Failed", numeric: true, format: format.exact },
    { key: "started_at", label: "Up for", numeric: true, format: (at) => format.seconds(Math.round((Date.now() - at) / 1000)) },
  ];
  body.replaceChildren(table(columns, workers, { caption: "Workers" }));
}

// Charts, all by uPlot: one wrapper for its axes, colours, theme, size, legend, tooltip and words for those who don't see.

import { h } from "./dom.js";
import { count, time } from "./format.js";

const HEIGHT = 220;
const FONT = "12px system-ui, sans-serif";
const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");

/**
 * Over time. `spec`: {times (unix seconds), series: [{label, values, tone, dash}], kind: "line" | "area" | "bars",
 * stacked, format, height, limits: [{value, label, tone}], marks: [{at, label}], most, onPick(place, label or null)}.
 * Returns {update(spec)}.
 */
export function timeChart(body, spec) {
  return draw(body, { ...spec, x: spec.times, named: (place, now) => `${time(now.x[place] * 1000).slice(0, 16)} UTC` }, true);
}

/** Over categories: `labels` instead of times; `threshold: {at (0 to 1 across), label}` marks a place on the axis. */
export function barChart(body, spec) {
  const x = spec.labels.map((_, place) => place);
  return draw(body, { kind: "bars", ...spec, x, named: (place, now) => now.labels[place] }, false);
}

/** A line without axes, as a figure's company. */
export function sparkline(values, tone = "c1") {
  const frame = h("div.chart.spark", { "aria-hidden": "true" });
  const make = () => {
    const options = {
      width: Math.max(40, frame.clientWidth),
      height: 34,
      padding: [3, 1, 1, 1],
      cursor: { show: false },
      legend: { show: false },
      axes: [{ show: false }, { show: false }],
      scales: { x: { time: false }, y: { range: (_, _least, most) => [0, most || 1] } },
      series: [{}, { stroke: colour(tone || "c1"), width: 1.5, fill: faint(tone || "c1"), points: { show: false } }],
    };
    return new uPlot(options, [frame.values.map((_, place) => place), frame.values], frame);
  };
  frame.values = values;
  keep(frame, make);
  frame.update = (next) => {
    frame.values = next;
    frame.plot?.setData([next.map((_, place) => place), next]);
  };
  return frame;
}

function draw(body, given, byTime) {
  const frame = h("div.chart", { role: "img" });
  const legend = h("div.legend");
  const tip = h("div.tip", { hidden: true });
  const state = { spec: given, hidden: new Set() };
  frame.append(tip);
  frame.style.setProperty("--chart-height", `${given.height ?? HEIGHT}px`);
  body.append(frame, legend);
  const make = () => new uPlot(options(frame, state, tip, byTime), lines(state), frame);
  keep(frame, make);
  describe(frame, given, byTime);
  drawLegend(legend, state, () => frame.again());
  return {
    update(next) {
      const same = next.series.length === state.spec.series.length && next.series.every((one, n) => one.label === state.spec.series[n].label);
      state.spec = { ...state.spec, ...next, x: byTime ? next.times : next.labels.map((_, place) => place) };
      describe(frame, state.spec, byTime);
      if (same && frame.plot) frame.plot.setData(lines(state));
      else {
        drawLegend(legend, state, () => frame.again());
        frame.again();
      }
    },
  };
}

/** Makes the plot once the frame has a width, makes it anew with the theme, and lets go of it with its frame. */
function keep(frame, make) {
  frame.again = () => {
    frame.plot?.destroy();
    frame.plot = frame.clientWidth > 0 ? make() : null;
  };
  const sized = new ResizeObserver(() => {
    if (!frame.plot) frame.again();
    else if (frame.clientWidth > 0) frame.plot.setSize({ width: frame.clientWidth, height: frame.plot.height });
  });
  sized.observe(frame);
  addEventListener("theme", frame.again);
  frame.letGo = () => {
    sized.disconnect();
    removeEventListener("theme", frame.again);
    frame.plot?.destroy();
    frame.plot = null;
  };
}

function options(frame, state, tip, byTime) {
  const { spec } = state;
  const format = spec.format ?? count;
  const axis = { stroke: colour("text-2"), font: FONT, ticks: { show: false }, grid: { stroke: colour("line"), width: 1 } };
  const bottom = byTime
    ? { ...axis, size: 30, space: 64, grid: { show: false }, values: clockMarks }
    : { ...axis, size: 30, space: 44, grid: { show: false }, values: (_, places) => places.map((place) => state.spec.labels[place] ?? "") };
  return {
    width: frame.clientWidth,
    height: spec.height ?? HEIGHT,
    padding: [10, 24, 0, 0],
    tzDate: utc,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: byTime, range: byTime ? (_, least, most) => across(state.spec, least, most) : (_, least, most) => [least - 0.6, most + 0.6] },
      y: { range: (_, least, most) => height(state.spec, least, most) },
    },
    axes: [bottom, { ...axis, size: widest(format), values: (_, values) => values.map((value) => format(value)) }],
    series: [{}, ...order(state).map((one) => stroke(one, spec))],
    hooks: {
      init: [(plot) => spec.onPick && plot.over.addEventListener("click", () => pick(plot, state))],
      draw: [(plot) => overlay(plot, state.spec)],
      setCursor: [(plot) => point(plot, tip, state, format)],
    },
  };
}

/** What stands on top is drawn first when areas are stacked, so that each covers what is below it. */
function order({ spec, hidden }) {
  const shown = spec.series.map((one, place) => ({ ...one, tone: one.tone ?? `c${(place % 8) + 1}` })).filter((one) => !hidden.has(one.label));
  return spec.stacked ? shown.reverse() : shown;
}

function lines(state) {
  const drawn = order(state);
  const { x, stacked } = state.spec;
  if (!stacked) return [x, ...drawn.map((one) => one.values)];
  const sums = x.map(() => 0);
  const piled = [...drawn].reverse().map((one) => one.values.map((value, place) => (sums[place] += value ?? 0)));
  return [x, ...piled.reverse()];
}

function stroke(one, spec) {
  const kind = one.kind ?? spec.kind ?? "line";
  const plain = colour(one.tone);
  if (kind === "bars") {
    return { stroke: plain, fill: plain, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 56], radius: spec.stacked ? 0 : 0.12 }) };
  }
  const filled = kind === "area" || spec.stacked;
  return {
    stroke: plain,
    width: 1.8,
    dash: one.dash ? [5, 4] : undefined,
    fill: filled ? (spec.stacked ? solid(one.tone) : faint(one.tone)) : undefined,
    spanGaps: false,
    points: { show: true, size: 5, fill: plain, filter: alone },
  };
}

/** Bars stand around their time: the first and the last need room for their other half. */
function across({ kind, x }, least, most) {
  const half = kind === "bars" ? (x.length > 1 ? x[1] - x[0] : 3600) / 2 : 0;
  return [least - half, Math.max(most + half, least + 1)];
}

function pick(plot, state) {
  const { idx, top } = plot.cursor;
  if (idx === null || idx === undefined) return;
  const { spec, hidden } = state;
  let left = plot.posToVal(top, "y");
  const shown = spec.series.filter((one) => !hidden.has(one.label));
  const at = spec.stacked ? shown.find((one) => (left -= one.values[idx] ?? 0) <= 0) : null;
  spec.onPick(idx, at?.label ?? null);
}

/** Places of values that no line leads to or from: without a point they would not be seen. */
function alone(plot, series) {
  const values = plot.data[series];
  const known = (place) => values[place] !== null && values[place] !== undefined;
  return values.map((_, place) => place).filter((place) => known(place) && !known(place - 1) && !known(place + 1));
}

function height(spec, least, most) {
  const limits = (spec.limits ?? []).map((limit) => limit.value);
  const top = Math.max(most ?? 0, ...limits, spec.most ?? 0);
  const bottom = Math.min(least ?? 0, 0);
  return [bottom, top > bottom ? top + (top - bottom) * 0.06 : bottom + 1];
}

function clockMarks(plot, moments, _axis, _space, step) {
  const span = plot.scales.x.max - plot.scales.x.min;
  return moments.map((moment, place) => {
    const iso = new Date(moment * 1000).toISOString();
    const day = `${Number(iso.slice(8, 10))} ${MONTHS[Number(iso.slice(5, 7)) - 1]}`;
    const midnight = iso.slice(11, 19) === "00:00:00";
    if (span > 3 * 86_400 || (midnight && span > 3600)) return midnight || place === 0 ? day : "";
    return step < 60 ? iso.slice(11, 19) : iso.slice(11, 16);
  });
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Limits and marks over the plot. */
function overlay(plot, spec) {
  const { ctx, bbox } = plot;
  const ratio = uPlot.pxRatio;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const { value, label, tone } of spec.limits ?? []) {
    const y = plot.valToPos(value, "y", true);
    rule(ctx, colour(tone ?? "bad"), bbox.left, y, bbox.left + bbox.width, y);
    ctx.textAlign = "right";
    ctx.fillText(label ?? "", bbox.left + bbox.width - 4 * ratio, y - 5 * ratio);
  }
  const marks = [...(spec.marks ?? []).map(({ at, label }) => ({ at, label }))];
  if (spec.threshold) marks.push({ at: -0.5 + spec.threshold.at * spec.x.length, label: spec.threshold.label });
  for (const { at, label } of marks) {
    const x = plot.valToPos(at, "x", true);
    rule(ctx, colour("text-2"), x, bbox.top, x, bbox.top + bbox.height);
    ctx.textAlign = x > bbox.left + bbox.width * 0.7 ? "right" : "left";
    ctx.fillText(label ?? "", x + (ctx.textAlign === "left" ? 5 : -5) * ratio, bbox.top + 11 * ratio);
  }
  ctx.restore();
}

function rule(ctx, paint, x1, y1, x2, y2) {
  ctx.strokeStyle = ctx.fillStyle = paint;
  ctx.lineWidth = 1.2 * uPlot.pxRatio;
  ctx.setLineDash([5 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
  ctx.setLineDash([]);
}

function point(plot, tip, state, format) {
  const { left, idx } = plot.cursor;
  tip.hidden = left < 0 || idx === null || idx === undefined;
  if (tip.hidden) return;
  const { spec, hidden } = state;
  const rows = spec.series
    .map((one, place) => ({ ...one, tone: one.tone ?? `c${(place % 8) + 1}`, value: one.values[idx] }))
    .filter((one) => !hidden.has(one.label) && one.value !== null && one.value !== undefined)
    .map((one) => h("div.tip-row", h("span.dot", { dataset: { tone: one.tone } }), h("span", one.label), h("b.num", format(one.value))));
  tip.replaceChildren(h("div.tip-head", spec.named(idx, spec)), ...rows);
  const over = plot.over.getBoundingClientRect();
  const frame = tip.parentElement.getBoundingClientRect();
  const x = over.left - frame.left + left;
  const flip = x > frame.width / 2;
  tip.style.setProperty("left", `${flip ? x - tip.offsetWidth - 12 : x + 12}px`);
  tip.style.setProperty("top", "8px");
}

function drawLegend(legend, state, redraw) {
  legend.replaceChildren();
  if (state.spec.series.length < 2) return;
  state.spec.series.forEach((one, place) => {
    const button = h(
      "button.quiet",
      { type: "button", "aria-pressed": String(!state.hidden.has(one.label)) },
      h("span.dot", { dataset: { tone: one.tone ?? `c${(place % 8) + 1}`, dash: one.dash ? "yes" : "" } }),
      one.label,
    );
    button.addEventListener("click", () => {
      if (!state.hidden.delete(one.label)) state.hidden.add(one.label);
      button.setAttribute("aria-pressed", String(!state.hidden.has(one.label)));
      redraw();
    });
    legend.append(button);
  });
}

/** The chart in words; its rows are a table one click away. */
function describe(frame, spec, byTime) {
  const format = spec.format ?? count;
  const words = spec.series.map((one) => {
    const known = one.values.filter((value) => value !== null && value !== undefined);
    if (!known.length) return `${one.label}: nothing`;
    return `${one.label}: highest ${format(Math.max(...known))}, last ${format(known.at(-1))}`;
  });
  const span = spec.x.length ? `${spec.named(0, spec)} to ${spec.named(spec.x.length - 1, spec)}. ` : "";
  frame.setAttribute("aria-label", `${byTime ? "Chart over time" : "Bar chart"}. ${span}${words.join("; ")}.`);
}

function widest(format) {
  return (plot, values) => {
    const texts = (values ?? []).map((value) => String(value));
    return Math.max(44, 18 + 7 * Math.max(0, ...texts.map((text) => text.length)));
  };
}

function colour(tone) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${tone}`).trim() || "gray";
}

function faint(tone) {
  return `${colour(tone)}24`;
}

/** Over the surface, so that what lies below a stacked area doesn't shine through. */
function solid(tone) {
  const [over, under] = [colour(tone), colour("surface")].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `rgb(${over.map((value, place) => Math.round(value * 0.62 + under[place] * 0.38)).join(" ")})`;
}

// Figures as people read them. Times are UTC, as in the ledger.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const NANO = 1e9;

export function exact(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** Three digits and a unit: 12,345 → 12.3k. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size * 10 || (unit !== "k" && Math.abs(value) >= size)) return short(value / size) + unit;
  }
  return Math.abs(value) < 1000 && !Number.isInteger(value) ? short(value) : whole.format(value);
}

/** Nano-dollars; a little is never shown as nothing. */
export function money(nano) {
  if (nano === null || nano === undefined) return "–";
  const dollars = Math.abs(nano) / NANO;
  const sign = nano < 0 ? "−" : "";
  if (dollars === 0) return "$0";
  if (dollars >= 1e6) return `${sign}$${short(dollars / 1e6)}M`;
  const digits = dollars >= 1000 ? 0 : dollars >= 1 ? 2 : dollars >= 0.01 ? 4 : 6;
  const least = 10 ** -digits;
  if (dollars < least) return `${sign}<$${least.toFixed(digits)}`;
  return `${sign}$${dollars.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

/** To the last nano-dollar, without needless zeros. */
export function moneyExact(nano) {
  const whole_ = Math.trunc(Math.abs(nano) / NANO);
  const rest = String(Math.round(Math.abs(nano) % NANO)).padStart(9, "0").replace(/0+$/, "").padEnd(2, "0");
  return `${nano < 0 ? "−" : ""}$${whole.format(whole_)}.${rest}`;
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return value === 0 ? "0 ms" : "<1 ms";
  if (value < 1000) return `${value < 10 ? short(value) : Math.round(value)} ms`;
  return seconds(value / 1000);
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return ms(value * 1000);
  if (value < 60) return `${short(value)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const parts = [];
  let left = Math.round(value);
  for (const [unit, size] of units) {
    if (left >= size) {
      parts.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ");
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return `${value > 0 && value < 10 ? short(value) : count(Math.round(value))}/s`;
}

export function percent(share, digits = share < 0.1 && share > 0 ? 1 : 0) {
  return share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;
}

export function bytes(value) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024]]) {
    if (value >= size) return `${short(value / size)} ${unit}`;
  }
  return `${exact(value)} B`;
}

export function day(at) {
  return iso(at).slice(0, 10);
}

/** 2026-11-23 02:10:03 */
export function time(at) {
  return at === null || at === undefined ? "–" : iso(at).slice(0, 19).replace("T", " ");
}

/** 02:10:03.120 */
export function clock(at, digits = 3) {
  return iso(at).slice(11, digits ? 20 + digits : 19);
}

export function ago(at, now = Date.now()) {
  const passed = (now - at) / 1000;
  return passed < 1 ? "now" : `${seconds(passed < 60 ? Math.round(passed) : passed).split(" ").slice(0, 2).join(" ")} ago`;
}

function iso(at) {
  return new Date(at).toISOString();
}

function short(value) {
  const size = Math.abs(value);
  const text = value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

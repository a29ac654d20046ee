// Money as it is: whole nano-dollars, which the server sends as digits in a string. Only a chart's height is a float.

const NANO = 1_000_000_000n;

/** A BigInt; nothing counts as 0. */
export function nano(value) {
  return value === null || value === undefined ? 0n : BigInt(value);
}

export function sum(values) {
  return values.reduce((total, value) => total + nano(value), 0n);
}

/** To the last nano-dollar, with cents at least: $1,234.50 or −$0.000000001. */
export function exact(value) {
  const amount = nano(value);
  const size = amount < 0n ? -amount : amount;
  const rest = String(size % NANO).padStart(9, "0").replace(/0+$/, "").padEnd(2, "0");
  return `${amount < 0n ? "−" : ""}$${grouped(size / NANO)}.${rest}`;
}

/** Rounded, half up: cents from a dollar on, three figures below; a little is never shown as nothing. */
export function money(value) {
  if (value === null || value === undefined) return "–";
  const amount = nano(value);
  const size = amount < 0n ? -amount : amount;
  if (size === 0n) return "$0.00";
  const sign = amount < 0n ? "−" : "";
  const digits = size >= NANO / 10n ? 2 : Math.min(9, 12 - String(size).length);
  const unit = 10n ** BigInt(9 - digits);
  const rounded = (size + unit / 2n) / unit;
  const scale = 10n ** BigInt(digits);
  const rest = String(rounded % scale).padStart(digits, "0").replace(/0+$/, "").padEnd(2, "0");
  return `${sign}$${grouped(rounded / scale)}.${rest}`;
}

/** For a chart's axis and its heights: dollars as a float. */
export function dollars(value) {
  return value === null || value === undefined ? null : Number(value) / 1e9;
}

/** part / whole as a float, 0 to 1; 0 of nothing. */
export function share(part, whole) {
  const all = nano(whole);
  return all === 0n ? 0 : Number((nano(part) * 1_000_000n) / all) / 1e6;
}

function grouped(whole) {
  return String(whole).replace(/\B(?=(\d{3})+$)/g, ",");
}

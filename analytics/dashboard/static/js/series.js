// From rows of one time and one group each to what a chart draws: a slot for each time, none left out.

const SECONDS = { minute: 60, hour: 3600, day: 86400 };

/** A row's time, UTC ms: days and months come as dates, the rest as numbers. */
export function timeOf(row, resolution) {
  const value = row[resolution];
  return typeof value === "string" ? Date.parse(value) : value;
}

/** Every beginning of a minute, hour, day or month from `data.since` to `data.until`, UTC ms. */
export function slots(data) {
  const found = [];
  for (let at = begin(data.since, data.resolution); at < data.until; at = following(at, data.resolution)) found.push(at);
  return found;
}

/** When the slot that begins at `at` ends. */
export function following(at, resolution) {
  if (resolution !== "month") return at + SECONDS[resolution] * 1000;
  const date = new Date(at);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/**
 * `name(row)` says which series a row belongs to, `value(row)` what it adds there. Slots that have none are `nothing`:
 * 0 where nothing was spent, null where there was nothing to measure.
 */
export function pivot(data, name, value, nothing = 0) {
  const times = slots(data);
  const place = new Map(times.map((at, number) => [at, number]));
  const series = new Map();
  for (const row of data.rows) {
    const number = place.get(timeOf(row, data.resolution));
    if (number === undefined) continue;
    const key = name(row);
    if (!series.has(key)) series.set(key, new Array(times.length).fill(nothing));
    series.get(key)[number] = value(row);
  }
  return { times: times.map((at) => at / 1000), series };
}

function begin(ms, resolution) {
  const date = new Date(ms);
  if (resolution === "month") return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
  return Math.floor(ms / 1000 / SECONDS[resolution]) * SECONDS[resolution] * 1000;
}

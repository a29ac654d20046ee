// A card that shows one endpoint: it fetches, waits, fails, is empty, and offers its data and SQL.

import { address, get } from "./api.js";
import { showSql } from "./dialogs.js";
import { clear, h } from "./dom.js";
import { table } from "./table.js";

const LIVE_MS = 2000; // the shortest time between two looks at the ledger
/** Sends real traffic through a stack that runs. */
export const REPLAY = "millrace replay millrace/samples/azure_llm_2023_conv_1000.csv --speed 10";

export function panel(page, spec) {
  const body = h("div.panel-body", h("div.skeleton", { "aria-hidden": "true" }));
  const actions = h("div.actions");
  const title = h("h2", spec.title);
  const note = spec.note ? h("p.note", spec.note) : null;
  const heads = h("div.panel-titles", title, note);
  const element = h(
    "section.panel",
    { dataset: { span: spec.span ?? (spec.wide ? 12 : 6), source: spec.source, state: "loading" } },
    h("header.panel-head", heads, h("div.tools", spec.tools ?? [], actions)),
    body,
  );
  const shown = { handle: null, asTable: false };
  const params = () => page.params(typeof spec.params === "function" ? spec.params() : spec.params);

  async function load() {
    try {
      const data = await get(spec.source, params(), page.signal);
      if (page.signal.aborted) return;
      fillActions(actions, spec, data, params(), shown, () => render(data));
      await render(data, true);
      element.dataset.state = "ready";
    } catch (error) {
      if (error.name === "AbortError" || page.signal.aborted) return;
      element.dataset.state = "failed";
      shown.handle = null;
      clear(body).append(failure(error, load));
    }
  }

  async function render(data, again = false) {
    if (again && shown.handle?.update && data.rows.length && !shown.asTable) {
      shown.handle.update(data);
      return;
    }
    shown.handle = null;
    clear(body);
    if (!data.rows.length && spec.empty) body.append(typeof spec.empty === "string" ? empty("", spec.empty) : spec.empty());
    else if (shown.asTable) body.append(plain(data.rows, spec.title));
    else shown.handle = (await spec.render(data, body)) ?? null;
  }

  load();
  if (spec.live) page.live("ledger", sparingly(load, page.signal));
  element.reload = load;
  return element;
}

/** Says what is missing and what to do; `command` can be copied. */
export function empty(title, text, { command, action } = {}) {
  const parts = [title ? h("p.empty-title", title) : null, text ? h("p", text) : null, action ?? null];
  if (command) parts.splice(2, 0, copyable(command));
  return h("div.empty", parts);
}

export function copyable(command) {
  const button = h("button.quiet", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(command);
    button.textContent = "Copied";
  });
  return h("div.command", h("code", { tabIndex: 0 }, command), button);
}

function fillActions(actions, spec, data, params, shown, render) {
  const names = [];
  if (spec.table !== false) {
    const toggle = h("button.quiet", { type: "button", "aria-pressed": String(shown.asTable) }, "Table");
    toggle.addEventListener("click", () => {
      shown.asTable = !shown.asTable;
      toggle.setAttribute("aria-pressed", String(shown.asTable));
      render();
    });
    names.push(toggle);
  }
  if (data.sql) names.push(h("button.quiet", { type: "button", onclick: () => showSql(spec.title, data.sql) }, "SQL"));
  for (const format of ["csv", "json"]) {
    const href = address(spec.source, { ...params, format });
    names.push(h("a.quiet", { href, download: "", "aria-label": `${spec.title}: ${format.toUpperCase()}` }, format.toUpperCase()));
  }
  actions.replaceChildren(...names);
}

function failure(error, retry) {
  const again = h("button", { type: "button", onclick: retry }, "Try again");
  return h("div.empty", { role: "alert" }, h("p.empty-title", "That didn't work"), h("p", error.message), again);
}

function plain(rows, caption) {
  const columns = Object.keys(rows[0] ?? {}).map((key) => ({
    key,
    label: key,
    numeric: rows.some((row) => typeof row[key] === "number"),
    format: (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value ?? "–")),
  }));
  return table(columns, rows, { caption, limit: 200 });
}

/** At most one run at a time, and not more often than LIVE_MS; never while the page is hidden. */
function sparingly(work, signal) {
  let waiting = false;
  let last = Date.now();
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(
      async () => {
        waiting = false;
        last = Date.now();
        if (!signal.aborted && !document.hidden) await work();
      },
      Math.max(0, last + LIVE_MS - Date.now()),
    );
  };
}

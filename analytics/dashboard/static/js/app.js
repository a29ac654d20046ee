// The shell: who is signed in, where they are, and what stands around a view.

import { get, post, Problem, remember, remove } from "./api.js";
import { segmented, search } from "./controls.js";
import { toast } from "./dialogs.js";
import { clear, h } from "./dom.js";
import * as live from "./live.js";
import { Page } from "./page.js";
import { empty } from "./panel.js";
import { signIn } from "./sign-in.js";

const PERIODS = ["15m", "1h", "6h", "24h", "7d", "30d", "90d"];
const DEFAULT_PERIOD = "24h";
const app = document.getElementById("app");
const parts = {};
let session = null;
let page = null;

async function start() {
  const offered = location.hash.startsWith("#key=") ? decodeURIComponent(location.hash.slice(5)) : null;
  if (offered) history.replaceState(null, "", location.pathname + location.search);
  try {
    enter(offered ? await post("session", { key: offered }) : await get("session"));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    leave(offered || error.status !== 401 ? error.message : "");
  }
}

function enter(found) {
  session = found;
  remember(session);
  build();
  live.connect();
  show();
}

function leave(reason = "") {
  page?.end();
  page = session = null;
  remember(null);
  live.close();
  document.title = "Millrace";
  signIn(app, enter, reason);
}

function build() {
  parts.nav = h("nav", { "aria-label": "Views" });
  parts.title = h("h1", { tabIndex: -1 });
  parts.toolbar = h("div.toolbar");
  parts.root = h("div.view", { id: "view" });
  parts.state = h("span.live", { role: "status", title: "Live updates" }, h("span.visually-hidden", "Connecting"));
  const theme = h("button.quiet.icon", { type: "button", "aria-label": "Light or dark", title: "Light or dark", onclick: window.toggleTheme }, "◐");
  const out = h("button.quiet.out", { type: "button", onclick: signOut }, "Sign out");
  const who = h("span.who", session.operator ? "Operator" : session.tenant);
  app.replaceChildren(
    h("a.skip", { href: "#view" }, "Skip to content"),
    h("aside.side", h("div.side-in", h("a.brand", { href: "/" }, h("img", { src: "/static/icon.svg", alt: "", width: 26, height: 26 }), h("span", "Millrace")), parts.nav, h("div.account", parts.state, who, theme, out))),
    h("main", h("header.top", parts.title, parts.toolbar), parts.root),
  );
}

async function signOut() {
  try {
    await remove("session");
  } finally {
    leave();
  }
}

async function show() {
  const [id = "", ...path] = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const query = new URLSearchParams(location.search);
  const known = session.views.find((view) => view.id === id) ?? null;
  if (!known) {
    go(`/${session.views[0].id}`, true);
    return;
  }
  const before = page?.id;
  page?.end();
  page = new Page({ root: parts.root, id, path, query, session, go });
  const mine = page;
  drawNav(id, query);
  parts.title.textContent = known.title;
  document.title = `${known.title} · Millrace`;
  if (before !== id) clear(parts.root);
  await mount(mine, known);
  if (before !== undefined && before !== id) scrollTo(0, 0);
}

async function mount(mine, known) {
  let view;
  try {
    view = (await import(`/static/views/${known.id}.js`)).default;
    if (view.css) await styled(known.id);
  } catch (error) {
    parts.root.replaceChildren(empty("This view can't be loaded", String(error.message ?? error)));
    return;
  }
  if (mine.signal.aborted) return;
  const focus = heldFocus();
  clear(parts.root);
  if (typeof view.period === "string") mine.period = view.period;
  drawToolbar(mine, view);
  view.mount(mine);
  focus();
}

/** A field that is written in keeps the focus while the view around it is built anew. */
function heldFocus() {
  const held = document.activeElement;
  const label = held?.getAttribute("aria-label");
  const place = held?.selectionStart;
  return () => {
    if (!label || held.isConnected) return;
    const again = [...app.querySelectorAll("input, select, button")].find((one) => one.getAttribute("aria-label") === label);
    again?.focus();
    if (again && typeof place === "number") again.setSelectionRange?.(place, place);
  };
}

function styled(id) {
  const href = `/static/views/${id}.css`;
  if (document.querySelector(`link[href="${href}"]`)) return null;
  return new Promise((resolve) => {
    const sheet = h("link", { rel: "stylesheet", href, onload: resolve, onerror: resolve });
    document.head.append(sheet);
  });
}

function drawNav(current, query) {
  const kept = new URLSearchParams([...query].filter(([name]) => name === "since" || name === "tenant"));
  const links = session.views.map(({ id, title }) =>
    h("a", { href: `/${id}${kept.size ? `?${kept}` : ""}`, "aria-current": id === current ? "page" : null, dataset: { view: id } }, title),
  );
  parts.nav.replaceChildren(...links);
  parts.nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

function drawToolbar(mine, view) {
  const tools = [];
  const wants = (asked) => (typeof asked === "function" ? asked(mine) : asked);
  if (session.operator && wants(view.tenants) !== false) tools.push(tenantPicker(mine));
  if (wants(view.period)) {
    const fallback = mine.period ?? DEFAULT_PERIOD;
    const current = mine.query.get("since") ?? fallback;
    const options = PERIODS.map((value) => ({ value, label: value }));
    tools.push(segmented("Period", options, current, (since) => mine.setQuery({ since: since === fallback ? null : since, until: null })));
  }
  parts.toolbar.replaceChildren(...tools);
}

function tenantPicker(mine) {
  const current = mine.query.get("tenant") ?? "";
  const list = h("datalist", { id: "tenants" });
  const input = search("Tenant", current, (tenant) => mine.setQuery({ tenant }), { placeholder: "All tenants", list: "tenants" });
  get("requests/tenants", {}, mine.signal).then(
    ({ rows }) => list.replaceChildren(...rows.map(({ tenant }) => h("option", { value: tenant }))),
    () => {}, // the field takes any name without them
  );
  return h("div.tenant", input, list);
}

function go(address, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  show();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const target = new URL(link.href);
  if (target.origin !== location.origin || link.hasAttribute("download") || target.pathname.startsWith("/api/")) return;
  if (link.classList.contains("skip")) return;
  event.preventDefault();
  if (session) go(target.pathname + target.search);
});
addEventListener("popstate", () => session && show());
addEventListener("signed-out", () => session && leave("Your session has ended: sign in again."));
live.on("state", (state) => {
  if (!parts.state) return;
  parts.state.dataset.state = state;
  parts.state.firstChild.textContent = { live: "Live", waiting: "Reconnecting", off: "Not live" }[state];
});
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof Problem) {
    event.preventDefault();
    toast(event.reason.message, "bad");
  }
});

start();

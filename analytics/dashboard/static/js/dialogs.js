// Dialogs and passing notes. The browser's own <dialog> keeps the focus and closes on Escape.

import { h } from "./dom.js";

/** Opens; resolves with what it was closed with ("" for dismissed). `build(close)` gives its content. */
export function dialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    const element = h(wide ? "dialog.wide" : "dialog", { "aria-label": title });
    const close = (value) => element.close(value);
    const cross = h("button.quiet.cross", { type: "button", "aria-label": "Close", onclick: () => close("") }, "×");
    element.append(h("header", h("h2", title), cross), ...[build(close)].flat());
    element.addEventListener("close", () => {
      element.remove();
      resolve(element.returnValue);
    });
    element.addEventListener("click", (event) => {
      if (event.target === element) close("");
    });
    document.body.append(element);
    element.showModal();
  });
}

export async function confirm({ title, text, action, danger = false }) {
  const answer = await dialog(title, (close) => [
    h("p", text),
    h(
      "div.buttons",
      h("button", { type: "button", onclick: () => close("") }, "Cancel"),
      h(danger ? "button.danger" : "button.primary", { type: "button", onclick: () => close("yes") }, action),
    ),
  ]);
  return answer === "yes";
}

export function showSql(title, sql) {
  return dialog(
    `SQL: ${title}`,
    () => {
      const copy = h("button.primary", { type: "button" }, "Copy");
      copy.addEventListener("click", async () => {
        await navigator.clipboard?.writeText(sql);
        copy.textContent = "Copied";
      });
      const hint = h("p.note", "Runs as it is: millrace sql, or any ClickHouse client at the query port.");
      return [h("pre.sql", { tabIndex: 0 }, h("code", sql)), h("div.buttons", hint, copy)];
    },
    { wide: true },
  );
}

export function toast(text, tone = "") {
  let shelf = document.querySelector(".toasts");
  if (!shelf) {
    shelf = h("div.toasts", { role: "status" });
    document.body.append(shelf);
  }
  const note = h("div.toast", { dataset: { tone } }, text);
  shelf.append(note);
  setTimeout(() => note.remove(), 6000);
}

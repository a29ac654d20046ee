// The way in: an API key, sent once; the server answers with a cookie that scripts can't read.

import { post, Problem } from "./api.js";
import { h } from "./dom.js";

export function signIn(root, onSession, reason = "") {
  const input = h("input", {
    id: "key",
    type: "password",
    autocomplete: "current-password",
    placeholder: "mr_…",
    required: true,
    spellcheck: false,
    "aria-describedby": "key-help",
  });
  const problem = h("p.problem", { role: "alert" }, reason);
  const button = h("button.primary", { type: "submit" }, "Sign in");
  const form = h(
    "form.sign-in",
    h("img", { src: "/static/icon.svg", alt: "", width: 44, height: 44 }),
    h("h1", "Millrace"),
    h("p.note", "Flow, cost, latency and every request of this system."),
    h("label", { htmlFor: "key" }, "API key"),
    input,
    problem,
    button,
    h(
      "div.help",
      { id: "key-help" },
      h("p", "A tenant's key shows that tenant. An operator's key shows everything:"),
      h("code", "millrace keys create --operator"),
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      onSession(await post("session", { key: input.value }));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem.textContent = error.message;
      input.select();
    } finally {
      button.disabled = false;
    }
  });
  root.replaceChildren(h("main.outside", form));
  input.focus();
}

// Dead letters: what waits for a decision, and the decision. Nothing is sent without a confirm.

import { badge, confirm, dialog, empty, format, h, panel, post, segmented, table, toast } from "/static/js/kit.js";

export default {
  title: "Dead letters",
  css: true,
  period: "30d",
  mount(page) {
    const handled = page.query.get("handled") === "yes" ? "yes" : "no";
    const chosen = new Set();
    const redrive = h("button.primary", { type: "button", disabled: true, onclick: () => act("redrive") }, "Redrive");
    const drop = h("button.danger", { type: "button", disabled: true, onclick: () => act("drop") }, "Drop");
    const count = h("span.note.num", "none chosen");
    const choices = [
      { value: "no", label: "Open" },
      { value: "yes", label: "All" },
    ];
    const letters = panel(page, {
      title: "Dead letters",
      note: "records that could not be understood, or kept killing their worker",
      source: "dead-letters/list",
      params: { handled },
      wide: true,
      live: true,
      table: false,
      tools: [segmented("Which", choices, handled, (value) => page.setQuery({ handled: value === "no" ? null : value }))],
      render: (data, body) => body.append(list(data.rows)),
      empty: () => empty(handled === "no" ? "No dead letter waits" : "No dead letters", "Records that a stage can't understand come here, key and all, and are kept: choose a longer period to look further back."),
    });
    page.root.append(h("div.bar-of", count, redrive, drop), letters);
    page.live("dead-letters", letters.reload);

    function chose() {
      redrive.disabled = drop.disabled = !chosen.size;
      count.textContent = chosen.size ? `${format.exact(chosen.size)} chosen` : "none chosen";
    }

    function list(rows) {
      const open = rows.filter((row) => !row.handled);
      for (const id of [...chosen]) if (!open.some((row) => row.id === id)) chosen.delete(id);
      chose();
      const columns = [
        { key: "id", label: "", format: (id, row) => (row.handled ? "" : box(id)) },
        { key: "at", label: "When (UTC)", format: (at) => h("span.num", format.time(at)) },
        { key: "stage", label: "Stage", format: (stage) => stage || "unknown" },
        { key: "reason", label: "Why", fold: true },
        { key: "key", label: "Key", format: (key) => h("span.mono.key", key || "none") },
        { key: "topic", label: "From", format: (topic, row) => (topic ? `${topic} ${row.partition}.${row.offset}` : "–") },
        { key: "attempts", label: "Tries", numeric: true },
        { key: "handled", label: "Done", minor: handled === "no", format: (value) => (value ? badge(value, value === "redriven" ? "good" : "") : "–") },
        { key: "bytes", label: "", format: (_, row) => h("button.quiet", { type: "button", "aria-label": `Inspect ${row.id}`, onclick: () => inspect(row) }, "Inspect") },
      ];
      return table(columns, rows, { caption: "Dead letters", stack: true });
    }

    function box(id) {
      return h("input", {
        type: "checkbox",
        "aria-label": `Choose ${id}`,
        checked: chosen.has(id),
        onchange: (event) => {
          if (event.target.checked) chosen.add(id);
          else chosen.delete(id);
          chose();
        },
      });
    }

    async function act(what) {
      const ids = [...chosen];
      const some = `${format.exact(ids.length)} dead letter${ids.length === 1 ? "" : "s"}`;
      const sure = await confirm(
        what === "redrive"
          ? { title: `Redrive ${some}?`, text: "Each record goes on its way again, with its key: it is still answered and billed once. A request that failed runs once more.", action: "Redrive" }
          : { title: `Drop ${some}?`, text: "They are marked as handled, and nothing more is done about them. The log keeps them.", action: "Drop", danger: true },
      );
      if (!sure) return;
      const done = await post(`dead-letters/${what}`, { ids });
      chosen.clear();
      chose();
      if (what === "drop") toast(`${format.exact(done.dropped)} dropped`, "good");
      else {
        toast(`${format.exact(done.redriven)} redriven`, "good");
        for (const { id, why } of done.rows) toast(`${id} stays: ${why}`, "bad");
      }
      await letters.reload();
    }
  },
};

function inspect(row) {
  const facts = [
    ["Why", row.reason],
    ["Stage", row.stage || "unknown"],
    ["Key", row.key || "none"],
    ["Came from", row.topic ? `${row.topic} ${row.partition}.${row.offset}` : "–"],
    ["Tries", format.exact(row.attempts)],
    ["Its client", row.outcome ? `was answered: ${row.outcome}` : "was not answered"],
    ["Body", `${format.bytes(row.bytes)}, not shown here`],
    ["Done", row.handled ? `${row.handled}, ${format.time(row.handled_at)} UTC` : "nothing yet"],
  ];
  const headers = Object.entries(row.headers).map(([name, value]) => ({ name, value }));
  return dialog(
    `Dead letter ${row.id}`,
    () => [
      h("dl.letter", facts.map(([label, value]) => h("div", h("dt", label), h("dd", value)))),
      h("h3", "Headers"),
      headers.length ? table([{ key: "name", label: "Name" }, { key: "value", label: "Value", fold: true }], headers, { caption: "Headers", dense: true }) : h("p.note", "It had none."),
    ],
    { wide: true },
  );
}

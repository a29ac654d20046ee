// One stream of events for the whole page. It reconnects by itself; `state` says how it is.

const listeners = new Map(); // event → Set of functions
let source = null;

export function connect() {
  close();
  source = new EventSource("/api/live");
  source.addEventListener("open", () => tell("state", "live"));
  source.addEventListener("error", () => tell("state", "waiting"));
  source.addEventListener("signed-out", () => dispatchEvent(new Event("signed-out")));
  for (const event of listeners.keys()) hear(event);
}

export function close() {
  source?.close();
  source = null;
  tell("state", "off");
}

/** Calls `listener` with each event's value until `signal` aborts. */
export function on(event, listener, signal) {
  if (!listeners.has(event)) {
    listeners.set(event, new Set());
    if (source) hear(event);
  }
  listeners.get(event).add(listener);
  signal?.addEventListener("abort", () => listeners.get(event).delete(listener));
}

function hear(event) {
  if (event !== "state") source.addEventListener(event, (message) => tell(event, JSON.parse(message.data)));
}

function tell(event, value) {
  for (const listener of listeners.get(event) ?? []) listener(value);
}

addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => {
  if (event.persisted && source) connect();
});

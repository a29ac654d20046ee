// The server's endpoints. What goes wrong is a Problem whose message is fit for people.

export class Problem extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let csrf = "";

export function remember(session) {
  csrf = session?.csrf ?? "";
}

export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

export function get(path, params, signal) {
  return ask(address(path, params), { signal });
}

export function post(path, body = {}, params = {}) {
  return ask(address(path, params), write("POST", body));
}

export function remove(path) {
  return ask(address(path), write("DELETE", {}));
}

function write(method, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  return { method, headers, body: JSON.stringify(body) };
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The dashboard's server doesn't answer.", 0, "unreachable");
  }
  if (response.status === 204) return null;
  const value = await response.json().catch(() => null);
  if (response.ok) return value;
  const { message, code } = value?.error ?? {};
  if (response.status === 401 && options.method === undefined) dispatchEvent(new Event("signed-out"));
  throw new Problem(message ?? `The server answered ${response.status}.`, response.status, code);
}

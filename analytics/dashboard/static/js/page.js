// What a view's module gets: its place on the screen, its address, and what ends with it.

import * as live from "./live.js";

export class Page {
  constructor({ root, id, path, query, session, go }) {
    this.root = root;
    this.id = id;
    this.path = path;
    this.query = query;
    this.session = session;
    this.#go = go;
  }

  period; // when the address names none; the server's own if undefined
  #go;
  #ended = new AbortController();

  get signal() {
    return this.#ended.signal;
  }

  end() {
    this.#ended.abort();
  }

  /** What every endpoint is asked with: the period and the tenant that the address names. */
  params(extra = {}) {
    const { since = this.period, until, tenant } = Object.fromEntries(this.query);
    return { since, until, tenant, ...extra };
  }

  /** An address in the dashboard; the period and the tenant go along. */
  link(path, query = {}) {
    const { since, until, tenant } = Object.fromEntries(this.query);
    const kept = Object.entries({ since, until, tenant, ...query }).filter(([, value]) => value);
    const text = new URLSearchParams(kept).toString();
    return `/${path}${text ? `?${text}` : ""}`;
  }

  go(path, query = {}) {
    this.#go(this.link(path, query));
  }

  /** The same view with parts of its query changed; null takes a part away. */
  setQuery(changes) {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "") query.delete(name);
      else query.set(name, value);
    }
    const path = [this.id, ...this.path].map(encodeURIComponent).join("/");
    this.#go(`/${path}${query.size ? `?${query}` : ""}`);
  }

  live(event, listener) {
    live.on(event, listener, this.signal);
  }
}

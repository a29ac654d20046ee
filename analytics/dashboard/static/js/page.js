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
    const { since, until, tenant } = Object.fromEntries(this.query);
    return { since, until, tenant, ...extra };
  }

  /** An address in the dashboard; the period and the tenant go along. */
  link(path, query = {}) {
    const text = new URLSearchParams(Object.entries(this.params(query)).filter(([, value]) => value)).toString();
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

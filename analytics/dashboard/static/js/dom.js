// Elements without markup in strings: text is always text.

/** `h("button.small", {type: "button", onclick}, "Text", child, [children])`. `style` sets CSS properties. */
export function h(selector, ...rest) {
  const [name, ...classes] = selector.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.classList.add(...classes);
  const props = isProps(rest[0]) ? rest.shift() : {};
  for (const [key, value] of Object.entries(props)) set(element, key, value);
  element.append(...children(rest));
  return element;
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...rest) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children(rest));
  return element;
}

/** Empties an element, and lets go of the charts in it. */
export function clear(element) {
  for (const chart of element.querySelectorAll(".chart")) chart.letGo?.();
  element.replaceChildren();
  return element;
}

function isProps(value) {
  return value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;
}

function set(element, key, value) {
  if (value === undefined || value === null || value === false) return;
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
  else if (key === "dataset") Object.assign(element.dataset, value);
  else if (key in element && !key.startsWith("aria") && key !== "list" && key !== "form") element[key] = value;
  else element.setAttribute(key, value === true ? "" : value);
}

function children(values) {
  return values.flat(Infinity).filter((value) => value !== null && value !== undefined && value !== false);
}

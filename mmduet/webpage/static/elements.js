// @ts-check
/** Small helpers to build the components of the live page without a framework and without innerHTML. */

const REMOVED_MILLISECONDS = 5000;

/**
 * Create an element. Properties that exist on the element are set, others become attributes; null and false are left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties] `class`, `dataset`, attributes, and `on…` functions as event listeners
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) setProperty(made, name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * @param {HTMLElement} target
 * @param {string} name
 * @param {any} value
 */
function setProperty(target, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "dataset") Object.assign(target.dataset, value);
  else if (typeof value === "function" && name.startsWith("on")) target.addEventListener(name.slice(2), value);
  else if (name !== "class" && name in target && typeof value !== "string") /** @type {any} */ (target)[name] = value;
  else target.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Return a style sheet for shadow roots.
 * @param {string} text
 */
export function styleSheet(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

/**
 * Attach a shadow root with these style sheets and children, unless the element has one because it was moved.
 * @param {HTMLElement} host
 * @param {CSSStyleSheet[]} sheets
 * @param {...(Node | string)} children
 */
export function attachRoot(host, sheets, ...children) {
  if (host.shadowRoot !== null) return host.shadowRoot;
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = sheets;
  root.replaceChildren(...children);
  return root;
}

/**
 * Set text only if it has changed, so that screen readers and layout are not disturbed.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Register a custom element once, also if the module is loaded from two addresses.
 * @param {string} name
 * @param {CustomElementConstructor} type
 */
export function define(name, type) {
  if (!customElements.get(name)) customElements.define(name, type);
}

/**
 * Call a function if an element is still outside of the document after some time: pages move elements by removing them first.
 * @param {HTMLElement} host
 * @param {() => void} use
 */
export function whenRemoved(host, use) {
  setTimeout(() => host.isConnected || use(), REMOVED_MILLISECONDS);
}

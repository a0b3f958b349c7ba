// @ts-check
/** Creates elements without innerHTML, so that text from outside is never parsed as HTML. */

/**
 * Return a new element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] properties of the element; "class", "aria-…", "data-…", "role" and "for" are
 *   attributes; functions whose name starts with "on" are event listeners
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (/^(class|role|for|aria-|data-)/.test(name)) node.setAttribute(name, String(value));
    else Reflect.set(node, name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => /** @type {any} */ (child)));
  return node;
}

/**
 * Call ``build`` once for every part of the page, when Gradio has created the part's element. If Gradio creates the element
 * again, the part moves there.
 * @param {Record<string, () => Node>} parts builders by the name of their part
 * @returns {void}
 */
export function fillParts(parts) {
  /** @type {Map<string, Node>} */
  const built = new Map();
  const fill = () => {
    for (const place of document.querySelectorAll(".mmduet-part:empty")) {
      const name = place.id.replace("mmduet-", "");
      const build = parts[name];
      if (build === undefined) continue;
      const node = built.get(name) ?? build();
      built.set(name, node);
      place.append(node);
    }
  };
  new MutationObserver(fill).observe(document.body, { childList: true, subtree: true });
  fill();
}

/**
 * Return a duration as m:ss.
 * @param {number} seconds
 */
export function formatTime(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

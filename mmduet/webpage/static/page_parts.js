// @ts-check
/** Fills the parts of the page that Gradio lays out. */

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

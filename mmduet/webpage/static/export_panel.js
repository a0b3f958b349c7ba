// @ts-check
/** Buttons that export the session: its log, and the command line and Python code that do the same. */

import { element } from "./dom.js";
import { toCommand, toJsonLines, toPython } from "./export_session.js";

/**
 * Return the panel.
 * @param {any} view the ``<mmduet-live>`` whose session is exported
 */
export function exportPanel(view) {
  const code = element("pre", { class: "mmduet-code", tabIndex: 0, hidden: true, "aria-label": "Code" });
  const show = (/** @type {string} */ text) => {
    code.hidden = false;
    code.textContent = text;
  };
  const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
    element("button", { class: "mmduet-button mmduet-secondary", type: "button", onclick }, label);
  return element(
    "div",
    { class: "mmduet-panel" },
    element(
      "div",
      { class: "mmduet-row" },
      button("Download the session log (JSONL)", () => download("session.jsonl", toJsonLines(view.log), "application/jsonl")),
      button("As a command", () => show(toCommand(view.description))),
      button("As Python", () => show(toPython(view.description))),
    ),
    code,
  );
}

/**
 * Let the browser save a text.
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

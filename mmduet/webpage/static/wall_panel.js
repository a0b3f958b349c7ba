// @ts-check
/** The tab with many streams side by side. */

import { element } from "./elements.js";
import { clipSource } from "./video_sources.js";

const COUNTS = [4, 9, 16];

/**
 * Return the panel.
 * @param {any} wall the ``<mmduet-wall>``
 * @param {any[]} clips
 */
export function wallPanel(wall, clips) {
  const start = (/** @type {number} */ count) => {
    const sources = Array.from({ length: count }, (_, index) => clipSource(clips[index % clips.length]));
    wall.start(sources);
  };
  const buttons = COUNTS.map((count) =>
    element("button", { class: "mmduet-button", type: "button", onclick: () => start(count) }, `${count} streams`),
  );
  const stop = element("button", { class: "mmduet-button mmduet-secondary", type: "button", onclick: () => wall.stop() }, "Stop");
  return element(
    "div",
    { class: "mmduet-panel" },
    element("p", {}, "Many streams share one model: their new frames are computed together in one batch."),
    element("div", { class: "mmduet-row" }, ...buttons, stop),
    wall,
  );
}

// @ts-check
/** The tab with many streams side by side. */

import { element } from "./elements.js";
import { clipSource } from "./video_sources.js";

const COUNTS = [4, 9, 16];

/**
 * Return the panel.
 * @param {any} wall the ``<mmduet-wall>``
 * @param {any[]} clips
 * @param {boolean} allowsAddresses whether the server opens addresses of streams
 */
export function wallPanel(wall, clips, allowsAddresses) {
  const problem = element("p", { role: "alert", class: "mmduet-problem" });
  const attempt = (/** @type {() => void} */ action) => () => {
    problem.textContent = "";
    try {
      action();
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
    }
  };
  const button = (/** @type {string} */ label, /** @type {() => void} */ action, secondary = false) => {
    const style = secondary ? "mmduet-button mmduet-secondary" : "mmduet-button";
    return element("button", { class: style, type: "button", onclick: attempt(action) }, label);
  };
  const fill = (/** @type {number} */ count) =>
    wall.start(Array.from({ length: count }, (_, index) => clipSource(clips[index % clips.length])));
  return element(
    "div",
    { class: "mmduet-panel" },
    element("p", {}, "Many streams share one model: their new frames are computed together in one batch."),
    element(
      "div",
      { class: "mmduet-row" },
      ...COUNTS.map((count) => button(`${count} streams`, () => fill(count))),
      button("Add this camera", () => wall.add({ kind: "camera", title: "Camera" }), true),
    ),
    allowsAddresses ? addressForm(wall, attempt) : null,
    problem,
    wall,
  );
}

/**
 * @param {any} wall
 * @param {(action: () => void) => () => void} attempt
 */
function addressForm(wall, attempt) {
  const address = element("input", { type: "url", id: "mmduet-wall-address", placeholder: "rtsp://camera.example/stream", required: true });
  const add = attempt(() => {
    const url = address.value.trim();
    wall.add({ kind: "url", url, title: url.replace(/\/\/[^/?#]*@/, "//") }); // without the password
  });
  const form = element(
    "form",
    { class: "mmduet-row" },
    element("label", { for: "mmduet-wall-address" }, "Camera or stream in the network"),
    address,
    element("button", { class: "mmduet-button mmduet-secondary", type: "submit" }, "Add"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add();
  });
  return form;
}

// @ts-check
/** The panels in which a visitor chooses what the model watches: clips, uploads, camera, screen and stream addresses. */

import { element } from "./elements.js";
import { formatTime } from "./format.js";

/** Explains how a server gets HTTPS. */
export const HTTPS_HELP = new URL("./https.html", import.meta.url).href;

/** @typedef {import("./requests.js").Requests} Requests */
/** @typedef {{kind: string, url?: string, preview?: string, transport?: string, title?: string, preset?: string, query?: string}} Source */
/** @typedef {(source: Source) => void} Choose called with the source that the visitor has chosen */

/**
 * Return the panel of the bundled clips.
 * @param {any[]} clips as ``GET clips`` lists them
 * @param {Choose} choose
 */
export function clipPanel(clips, choose) {
  const cards = clips.map((clip) =>
    element(
      "button",
      { class: "mmduet-card", type: "button", title: clip.description, onclick: () => choose(clipSource(clip)) },
      element("img", { src: clip.poster, alt: "", width: 160, height: 120 }),
      element("strong", {}, clip.title),
      element("span", {}, clip.query),
    ),
  );
  return element("div", { class: "mmduet-cards" }, ...cards);
}

/** @param {any} clip */
export function clipSource(clip) {
  return { kind: "clip", url: clip.source, preview: clip.preview, title: clip.title, preset: clip.preset, query: clip.query };
}

/** @param {any} upload */
export function uploadSource(upload) {
  const preview = upload.playable ? { preview: upload.preview, previewStart: upload.start_s } : {};
  return { kind: "upload", url: upload.source, title: upload.name, file: upload.name, ...preview };
}

/**
 * Return the panel of the camera or of the screen.
 * @param {"camera" | "screen"} kind
 * @param {Choose} choose
 */
export function capturePanel(kind, choose) {
  const label = kind === "camera" ? "Start the camera" : "Share a screen or window";
  const start = element("button", { class: "mmduet-button", type: "button", onclick: () => choose({ kind }) }, label);
  const panel = element("div", { class: "mmduet-panel" });
  if (!globalThis.isSecureContext) {
    start.disabled = true;
    panel.append(
      element(
        "p",
        { role: "note" },
        "Browsers allow camera and screen only on pages that were opened over HTTPS or from localhost. ",
        element("a", { href: HTTPS_HELP }, "How to enable HTTPS"),
      ),
    );
  }
  panel.append(
    start,
    element("p", {}, "Frames go to this server only and are not stored. Stop ends the transmission at once."),
  );
  return panel;
}

/**
 * Return the panel of cameras and streams in the network, which the server reads.
 * @param {Requests} requests
 * @param {boolean} allowed whether the server accepts any address
 * @param {Choose} choose
 */
export function addressPanel(requests, allowed, choose) {
  const url = element("input", { type: "url", id: "mmduet-address", placeholder: "rtsp://camera.example/stream", required: true });
  const transport = element(
    "select",
    { id: "mmduet-transport" },
    element("option", { value: "tcp" }, "TCP"),
    element("option", { value: "udp" }, "UDP"),
  );
  const result = element("div", { class: "mmduet-test-result", role: "status" });
  const test = element("button", { class: "mmduet-button mmduet-secondary", type: "button" }, "Test connection");
  test.addEventListener("click", () => testAddress(requests, url, transport.value, test, result));
  const form = element(
    "form",
    { class: "mmduet-panel" },
    element("label", { for: "mmduet-address" }, "Address (RTSP, HLS or http video)"),
    url,
    element("label", { for: "mmduet-transport" }, "Transport of RTSP"),
    transport,
    element("div", { class: "mmduet-row" }, test, element("button", { class: "mmduet-button", type: "submit" }, "Watch")),
    result,
  );
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    choose({ kind: "url", url: url.value.trim(), transport: transport.value });
  });
  if (!allowed) result.textContent = "This server opens no addresses; its operator can allow hosts with pull_hosts.";
  return form;
}

/**
 * Let the server open an address and show what it found.
 * @param {Requests} requests
 * @param {HTMLInputElement} url
 * @param {string} transport
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} result
 */
async function testAddress(requests, url, transport, button, result) {
  if (!url.reportValidity()) return;
  button.disabled = true;
  result.replaceChildren("Connecting …");
  try {
    const found = await requests.send("POST", "v1/sources/test", { url: url.value.trim(), transport });
    const rate = found.fps ? `, ${Math.round(found.fps * 10) / 10} frames per second` : "";
    const length = found.live ? "live" : `${formatTime(found.duration ?? 0)} long`;
    result.replaceChildren(
      element("img", { src: found.thumbnail, alt: "The first frame, as the model sees it" }),
      element("p", {}, `✓ ${found.width} × ${found.height}${rate}, ${length}`),
    );
  } catch (error) {
    result.replaceChildren(element("p", { class: "mmduet-problem" }, `✗ ${/** @type {Error} */ (error).message}`));
  } finally {
    button.disabled = false;
  }
}

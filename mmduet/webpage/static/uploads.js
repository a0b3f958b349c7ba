// @ts-check
/** The panel in which a visitor uploads videos and chooses among them. */

import { element, setText } from "./elements.js";
import { formatTime } from "./format.js";
import { uploadSource } from "./video_sources.js";

const POLL_MS = 1000;

/** Uploads of this tab. Emits "change" when the list changes, and "preview" with an upload while its preview is made. */
export class Uploads extends EventTarget {
  /**
   * @param {import("./requests.js").Requests} requests
   * @param {{max_upload_bytes: number, upload_lifetime_s: number}} limits
   */
  constructor(requests, limits) {
    super();
    this.requests = requests;
    this.limits = limits;
    /** @type {any[]} */
    this.list = [];
    addEventListener("pagehide", () => this.#onPageHide());
  }

  /**
   * Upload a file and return its description. Throws ``MmduetError``.
   * @param {File} file
   * @param {(share: number) => void} onProgress
   * @param {AbortSignal} signal
   */
  async add(file, onProgress, signal) {
    if (file.size > this.limits.max_upload_bytes) {
      const mib = Math.floor(this.limits.max_upload_bytes / 2 ** 20);
      throw new Error(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MiB; this server accepts ${mib} MiB at most`);
    }
    const path = `page/uploads?name=${encodeURIComponent(file.name)}`;
    const upload = await this.requests.upload(path, file, onProgress, signal);
    this.list.push(upload);
    this.dispatchEvent(new Event("change"));
    this.#followPreview(upload);
    return upload;
  }

  /**
   * Ask for the state of an upload until its preview can be played, or is known to fail.
   * @param {any} upload
   */
  async #followPreview(upload) {
    while (!upload.playable && upload.transcoding?.state !== "failed") {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (!this.list.includes(upload)) return;
      try {
        Object.assign(upload, await this.requests.send("GET", `page/uploads/${upload.id}`));
      } catch {
        return; // deleted, or the server cannot be reached
      }
      this.dispatchEvent(new CustomEvent("preview", { detail: upload }));
    }
  }

  /**
   * Delete an upload.
   * @param {any} upload
   */
  async remove(upload) {
    await this.requests.send("DELETE", `page/uploads/${upload.id}`);
    this.list = this.list.filter((other) => other !== upload);
    this.dispatchEvent(new Event("change"));
  }

  /** Delete all uploads, also if the browser keeps the page, because it reports no later end of a page that it keeps. */
  #onPageHide() {
    for (const upload of this.list) {
      this.requests.send("DELETE", `page/uploads/${upload.id}`, undefined, { keepalive: true }).catch(() => {});
    }
    this.list = [];
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Return the panel.
 * @param {Uploads} uploads
 * @param {(source: any) => void} choose
 */
export function uploadPanel(uploads, choose) {
  const input = element("input", { type: "file", id: "mmduet-file", accept: "video/*,.mkv,.ts,.flv,.avi,.wmv,.mxf" });
  const progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const stop = element("button", { class: "mmduet-button mmduet-secondary", type: "button", hidden: true }, "Stop the upload");
  const status = element("p", { role: "status" });
  const list = element("ul", { class: "mmduet-uploads" });
  const minutes = Math.round(uploads.limits.upload_lifetime_s / 60);
  const panel = element(
    "div",
    { class: "mmduet-panel mmduet-drop" },
    element("label", { for: "mmduet-file" }, "Choose a video, or drop one here"),
    input,
    element("div", { class: "mmduet-row" }, progress, stop),
    status,
    list,
    element("p", {}, `Uploads are deleted when you leave the page, and ${minutes} minutes after their last use.`),
  );
  const send = async (/** @type {File | undefined} */ file) => {
    if (!file) return;
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    progress.hidden = stop.hidden = false;
    status.textContent = `Uploading ${file.name} …`;
    try {
      const upload = await uploads.add(file, (share) => { progress.value = share; }, abort.signal);
      status.textContent = `${upload.name} is ready.`;
      choose(uploadSource(upload));
    } catch (error) {
      status.textContent = `✗ ${/** @type {Error} */ (error).message}`;
    } finally {
      progress.hidden = stop.hidden = true;
      input.value = "";
    }
  };
  input.addEventListener("change", () => send(input.files?.[0]));
  panel.addEventListener("dragover", (/** @type {DragEvent} */ event) => event.preventDefault());
  panel.addEventListener("drop", (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    send(event.dataTransfer?.files[0]);
  });
  uploads.addEventListener("change", () => list.replaceChildren(...uploads.list.map((upload) => uploadRow(uploads, upload, choose, status))));
  uploads.addEventListener("preview", (event) => {
    const upload = /** @type {CustomEvent} */ (event).detail;
    const label = list.querySelector(`[data-upload="${upload.id}"]`);
    if (label !== null) setText(label, describeUpload(upload)); // the row stays, with the focus of its buttons
  });
  return panel;
}

/**
 * @param {Uploads} uploads
 * @param {any} upload
 * @param {(source: any) => void} choose
 * @param {HTMLElement} status
 */
function uploadRow(uploads, upload, choose, status) {
  const remove = async () => {
    try {
      await uploads.remove(upload);
      status.textContent = `${upload.name} was deleted.`;
    } catch (error) {
      status.textContent = `✗ ${/** @type {Error} */ (error).message}`;
    }
  };
  return element(
    "li",
    {},
    element("span", { dataset: { upload: upload.id } }, describeUpload(upload)),
    element("button", { class: "mmduet-button", type: "button", onclick: () => choose(uploadSource(upload)) }, "Watch"),
    element("button", { class: "mmduet-button mmduet-secondary", type: "button", onclick: remove }, "Delete"),
  );
}

/** @param {any} upload */
function describeUpload(upload) {
  return `${upload.name}, ${formatTime(upload.duration_s)}${describePreview(upload)}`;
}

/** @param {any} upload */
function describePreview(upload) {
  if (upload.playable || !upload.transcoding) return "";
  if (upload.transcoding.state === "failed") return " (no preview; small pictures are shown instead)";
  if (upload.transcoding.position) return ` (preview for this browser: place ${upload.transcoding.position} in the queue)`;
  return ` (preview for this browser: ${Math.round(100 * upload.transcoding.progress)} %)`;
}

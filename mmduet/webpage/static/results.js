// @ts-check
/** The tab of finished results: runs a task over a whole video and shows captions, spans, highlights or answers. */

import { element, formatTime } from "./dom.js";
import { SERVER } from "./access.js";

const POLL_MS = 400;

/** Runs one task at a time and shows its result. */
export class ResultsPanel {
  /**
   * @param {import("./requests.js").Requests} requests
   * @param {any[]} clips
   * @param {import("./uploads.js").Uploads} uploads
   */
  constructor(requests, clips, uploads) {
    this.requests = requests;
    this.clips = clips;
    this.uploads = uploads;
    /** @type {string | null} */
    this.running = null;
    this.video = element("select", { id: "mmduet-result-video" });
    this.videoChoice = element("div", { class: "mmduet-panel" }, element("label", { for: "mmduet-result-video" }, "Video"), this.video);
    this.progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
    this.status = element("p", { role: "status" });
    this.output = element("div", { class: "mmduet-result" });
    this.element = element("div", { class: "mmduet-panel" }, this.progress, this.status, this.output);
    this.#listVideos();
    uploads.addEventListener("change", () => this.#listVideos());
  }

  #listVideos() {
    const selected = this.video.value;
    const options = [
      ...this.uploads.list.map((upload) => element("option", { value: upload.source }, `${upload.name} (uploaded)`)),
      ...this.clips.map((clip) => element("option", { value: clip.source }, clip.title)),
    ];
    this.video.replaceChildren(...options);
    if (options.some((option) => option.value === selected)) this.video.value = selected;
  }

  /**
   * Run a task over the chosen video and show its result.
   * @param {string} task
   * @param {string} query
   */
  async run(task, query) {
    this.stop();
    this.output.replaceChildren();
    this.progress.hidden = false;
    this.progress.value = 0;
    this.status.textContent = "Waiting for the server …";
    try {
      const body = { video: this.video.value, task, ...(query.trim() ? { query: query.trim() } : {}) };
      const { id } = await this.requests.send("POST", "page/results", body);
      this.running = id;
      const result = await this.#wait(id);
      if (result === null) return;
      this.status.textContent = result.state === "done" ? "Done." : `✗ ${result.error?.message ?? result.state}`;
      if (result.state === "done") this.output.replaceChildren(showResult(task, id, result));
    } catch (error) {
      this.status.textContent = `✗ ${/** @type {Error} */ (error).message}`;
    } finally {
      this.progress.hidden = true;
    }
  }

  /** Stop the running task. */
  stop() {
    if (this.running === null) return;
    this.requests.send("DELETE", `page/results/${this.running}`).catch(() => {});
    this.running = null;
    this.status.textContent = "Stopped.";
  }

  /**
   * Return the final state of a task; null if it was stopped here.
   * @param {string} id
   */
  async #wait(id) {
    for (;;) {
      const state = await this.requests.send("GET", `page/results/${id}`);
      if (this.running !== id) return null;
      this.progress.value = state.progress ?? 0;
      this.status.textContent = `Watching … ${Math.round(100 * (state.progress ?? 0))} %`;
      if (state.state !== "running" && state.state !== "queued") {
        this.running = null;
        return state;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/**
 * Return the address of a file that belongs to a result.
 * @param {string} id
 * @param {string} name
 */
function fileOf(id, name) {
  return new URL(`page/results/${id}/${name}`, SERVER).href;
}

/**
 * @param {string} task
 * @param {string} id
 * @param {any} result
 * @returns {Node}
 */
function showResult(task, id, result) {
  if (task === "caption") return showCaptions(id, result.output);
  if (task === "ground") return showSpans(id, result.output);
  if (task === "highlight") return showHighlights(id, result.output);
  return showReplies(result.output);
}

/**
 * @param {string[]} heads
 * @param {any[][]} rows
 */
function table(heads, rows) {
  const cells = (/** @type {any[]} */ row) => element("tr", {}, ...row.map((cell) => element("td", {}, String(cell))));
  return element(
    "table",
    { class: "mmduet-table" },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map(cells)),
  );
}

/**
 * @param {string} id
 * @param {any} output
 */
function showCaptions(id, output) {
  const rows = output.captions.map((/** @type {any} */ item) => [formatTime(item.start), formatTime(item.end), item.text]);
  return element(
    "div",
    {},
    table(["From", "To", "Caption"], rows),
    element("a", { href: fileOf(id, "captions.vtt"), download: "captions.vtt" }, "Download subtitles (WebVTT)"),
  );
}

/**
 * @param {string} id
 * @param {any} output
 */
function showSpans(id, output) {
  const rows = output.spans.map((/** @type {any} */ span) => [formatTime(span.start), formatTime(span.end), span.score.toFixed(2)]);
  return element(
    "div",
    {},
    element("img", { src: fileOf(id, "film-strip.png"), alt: "Film strip with the spans that were found; the table lists them" }),
    rows.length ? table(["From", "To", "Relevance"], rows) : element("p", {}, "Nothing in the video matches the question."),
  );
}

/**
 * @param {string} id
 * @param {any} output
 */
function showHighlights(id, output) {
  const players = output.spans.map((/** @type {any} */ span, /** @type {number} */ index) =>
    element(
      "figure",
      {},
      element("video", { src: fileOf(id, `span-${index}.mp4`), controls: true, preload: "metadata" }),
      element("figcaption", {}, `${formatTime(span.start)} to ${formatTime(span.end)}, score ${span.score.toFixed(2)}`),
    ),
  );
  return element(
    "div",
    {},
    element("div", { class: "mmduet-players" }, ...players),
    element("a", { href: fileOf(id, "reel.mp4"), download: "highlights.mp4" }, "Download all as one video"),
  );
}

/** @param {any} output */
function showReplies(output) {
  const rows = output.replies.map((/** @type {any} */ reply) => [formatTime(reply.time), reply.text]);
  return rows.length ? table(["At", "Reply"], rows) : element("p", {}, "The model had no answer.");
}

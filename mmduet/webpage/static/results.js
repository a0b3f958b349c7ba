// @ts-check
/** The tab of finished results: runs a task over a whole video and shows captions, spans, highlights or answers. */

import { element } from "./elements.js";
import { showResult } from "./result_view.js";

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
    this.starting = false; // whether a task has been requested whose id is not known yet
    this.attempt = 0; // counts the tasks that were started or stopped here
    /** @type {string | null} */
    this.finished = null; // the result that is shown; its files are at the server
    addEventListener("pagehide", (event) => {
      this.stop(); // the server runs one task per visitor
      if (!event.persisted) this.#discard();
    });
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
   * Run a task over the chosen video and show its result. The task that runs is stopped.
   * @param {string} task
   * @param {string} query
   */
  async run(task, query) {
    if (this.starting) return;
    const attempt = ++this.attempt;
    this.output.replaceChildren();
    this.progress.hidden = false;
    this.progress.value = 0;
    this.status.textContent = "Waiting for the server …";
    try {
      const id = await this.#create({ video: this.video.value, task, ...(query.trim() ? { query: query.trim() } : {}) });
      if (attempt !== this.attempt) return void (await this.#delete()); // stopped before its id was known
      const result = await this.#wait(id);
      if (result === null) return;
      const done = result.state === "done";
      const message = result.message ?? (done ? "" : "The task was stopped."); // of a result whose files are missing, too
      this.status.textContent = done ? `Done. ${message}`.trim() : `✗ ${message}`;
      if (done) this.output.replaceChildren(showResult(result));
    } catch (error) {
      if (attempt === this.attempt) this.status.textContent = `✗ ${/** @type {Error} */ (error).message}`;
    } finally {
      if (attempt === this.attempt) this.progress.hidden = true;
    }
  }

  /** Stop the running task. */
  stop() {
    if (this.running === null && !this.starting) return;
    this.attempt++;
    this.progress.hidden = true;
    this.status.textContent = "Stopped.";
    this.#delete();
  }

  /** Request a task and return its id. @param {Record<string, any>} body */
  async #create(body) {
    this.starting = true;
    try {
      await Promise.all([this.#delete(), this.#discard()]);
      const { id } = await this.requests.send("POST", "page/results", body);
      this.running = id;
      return id;
    } finally {
      this.starting = false;
    }
  }

  /** Delete the running task at the server, also while the page is left. */
  async #delete() {
    const id = this.running;
    this.running = null;
    await this.#send(id);
  }

  /** Delete the files of the result that was shown. */
  async #discard() {
    const id = this.finished;
    this.finished = null;
    await this.#send(id);
  }

  /** @param {string | null} id of the result to delete */
  async #send(id) {
    if (id !== null) await this.requests.send("DELETE", `page/results/${id}`, undefined, { keepalive: true }).catch(() => {});
  }

  /**
   * Return the final state of a task; null if it was stopped here.
   * @param {string} id
   */
  async #wait(id) {
    for (;;) {
      const state = await this.requests.send("GET", `page/results/${id}`);
      if (this.running !== id) return null;
      this.progress.value = state.progress;
      this.status.textContent = describeState(state);
      if (!["waiting", "running", "finishing"].includes(state.state)) {
        this.running = null;
        this.finished = id;
        return state;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** @param {any} state */
function describeState(state) {
  if (state.state === "waiting") return `Waiting: place ${state.position} in the queue. ${state.message ?? ""}`.trim();
  if (state.state === "finishing") return "Preparing the files …";
  return `Watching … ${Math.round(100 * state.progress)} %`;
}

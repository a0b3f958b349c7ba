// @ts-check
/** The batch at work: what the server reports in `GET /v1/stats` about all streams together. */
import { element, setText } from "./elements.js";
import { formatCount, formatDuration } from "./format.js";

const POLL_MILLISECONDS = 1000;

/** @typedef {Record<string, number | null>} Stats */

/** @type {Array<[string, string, (stats: Stats) => string]>} name, explanation, value */
const ROWS = [
  ["Streams", "sessions / places", (s) => `${whole(s.sessions)} / ${whole(s.max_sessions)}${s.queued ? `, ${s.queued} waiting` : ""}`],
  ["Throughput", "frames scored per second", (s) => number(s.frames_per_second)],
  ["Batch", "frames per step of the engine", (s) => number(s.frames_per_step)],
  ["Step time", "p50 / p95", (s) => `${formatDuration(s.step_ms_p50)} / ${formatDuration(s.step_ms_p95)}`],
  ["Age of frames", "arrival to score, p50 / p95", (s) => `${formatDuration(s.frame_age_ms_p50)} / ${formatDuration(s.frame_age_ms_p95)}`],
  ["Text", "tokens per second", (s) => number(s.tokens_per_second)],
  ["Utilization", "share of the engine's time", (s) => (s.utilization === null ? "–" : `${Math.round(100 * (s.utilization ?? 0))} %`)],
];

export class BatchPanel {
  /** @param {() => Promise<Stats>} fetchStats */
  constructor(fetchStats) {
    this.fetchStats = fetchStats;
    this.running = false;
    this.note = element("small", {}, "all streams of this server, last 10 s");
    this.values = ROWS.map(() => element("dd", { class: "number" }, "–"));
    this.element = element("section", { class: "batch", "aria-label": "Batch", hidden: true },
      element("h2", {}, "The batch at work ", this.note),
      element("dl", {}, ...ROWS.map(([name, meaning], index) => element("div", {},
        element("dt", {}, name), this.values[index], element("dd", { class: "term" }, meaning)))));
  }

  /** Display the figures every second until `stop`. */
  start() {
    this.element.hidden = false;
    if (this.running) return;
    this.running = true;
    this.#poll();
  }

  /** Keep the last figures. */
  stop() {
    this.running = false;
    clearTimeout(this.timer);
  }

  async #poll() {
    try {
      const stats = await this.fetchStats();
      ROWS.forEach(([, , format], index) => setText(this.values[index], format(stats)));
      setText(this.note, "all streams of this server, last 10 s");
    } catch (error) {
      setText(this.note, `not available (${/** @type {Error} */ (error).message})`);
    }
    if (this.running) this.timer = setTimeout(() => this.#poll(), POLL_MILLISECONDS);
  }
}

/** @param {number | null | undefined} value */
function number(value) {
  return value === null || value === undefined ? "–" : value.toFixed(1);
}

/** @param {number | null | undefined} value */
function whole(value) {
  return value === null || value === undefined ? "–" : formatCount(value);
}

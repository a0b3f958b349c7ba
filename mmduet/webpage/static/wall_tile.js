// @ts-check
/** One stream of the wall: video, small curve, state and last words. */
import { element, setText } from "./elements.js";
import { formatDuration, formatTime } from "./format.js";
import { LiveSession } from "./live_session.js";
import { STATE_NAMES, describeStatus } from "./messages.js";
import "./score_curve.js";
import { SessionView } from "./session_view.js";

const REFRESH_MILLISECONDS = 1000; // until the session has ended and the video has reached its last scored frame

/** Emits `select` when the stream is chosen. */
export class WallTile extends EventTarget {
  /**
   * @param {import("./live_session.js").LiveSource} source
   * @param {{url: string, connectOptions: Record<string, any>, waitSeconds: number}} options
   */
  constructor(source, options) {
    super();
    this.source = source;
    this.live = new LiveSession(options);
    this.curve = /** @type {import("./score_curve.js").ScoreCurve} */ (document.createElement("mmduet-curve"));
    this.curve.setAttribute("compact", "");
    this.curve.span = 20;
    this.stage = element("div", { class: "stage" });
    this.view = new SessionView(this.live, this.curve, this.stage);
    const title = source.title ?? source.url ?? source.kind;
    this.title = element("button", { type: "button", class: "plain title", "aria-label": `Open ${title}` }, title);
    this.title.addEventListener("click", () => this.dispatchEvent(new Event("select")));
    this.state = element("span", { class: "pill" });
    this.words = element("p", { class: "words" }, "–");
    this.latency = element("p", { class: "latency number" });
    this.element = element("li", { class: "tile" }, this.stage,
      element("div", { class: "head" }, this.title, this.state), this.curve, this.words, this.latency);
    this.#listen();
  }

  /** @param {import("./live_session.js").LiveSettings} settings */
  start(settings) {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.#refresh(), REFRESH_MILLISECONDS);
    return this.live.start({ speed: 1, ...this.source }, settings);
  }

  close() {
    clearInterval(this.timer);
    this.live.close();
    this.view.player?.destroy();
  }

  #listen() {
    this.live.addEventListener("statechange", () => this.#showState());
    this.view.addEventListener("reply", (event) => {
      const { time } = /** @type {CustomEvent} */ (event).detail;
      this.started = formatTime(time);
    });
    this.view.addEventListener("text", (event) => {
      const { delta } = /** @type {CustomEvent} */ (event).detail;
      if (this.started !== undefined) setText(this.words, `${this.started}  `);
      this.started = undefined;
      this.words.append(delta);
    });
    this.#showState();
  }

  #showState() {
    const { status } = this.live;
    this.element.dataset.state = status.state;
    setText(this.state, STATE_NAMES[status.state]);
    this.state.title = describeStatus(status);
    if (["failed", "queued", "retrying"].includes(status.state)) setText(this.words, describeStatus(status));
    this.#refresh();
  }

  #refresh() {
    const { frameToScore, scored } = this.view.figures;
    const text = scored === 0 ? "" : `${scored} frames · frame to score ${formatDuration(frameToScore.quantile(0.95))} (p95)`;
    setText(this.latency, text);
    const { player } = this.view;
    if (player !== null && scored > 0) this.curve.playhead = player.time;
    if (!this.live.active && (player?.isAtRest ?? true)) clearInterval(this.timer);
  }
}

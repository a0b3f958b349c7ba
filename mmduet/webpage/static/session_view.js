// @ts-check
/**
 * Connects a session with what displays it: the player, the curve and the figures. Used by the live view and by the wall.
 *
 * Events: `reply` with `{id, time, forced, comparison}`, `text` with `{id, delta}`, `done` with `{id, status, firstWord,
 * tokens, text}`, `turn` with `{text, time, role}`, `review`.
 */
import { CapturePlayer } from "./capture_player.js";
import { FilePlayer } from "./file_player.js";
import { SessionFigures } from "./session_figures.js";
import { describeComparison, describeScore } from "./speak_policy.js";
import { ThumbnailPlayer } from "./thumbnail_player.js";

/** @typedef {FilePlayer | CapturePlayer | ThumbnailPlayer} Player */

const MAX_OPEN_REPLIES = 32;

export class SessionView extends EventTarget {
  /**
   * @param {import("./live_session.js").LiveSession} live
   * @param {import("./score_curve.js").ScoreCurve} curve
   * @param {HTMLElement} stage that contains the player
   */
  constructor(live, curve, stage) {
    super();
    this.live = live;
    this.curve = curve;
    this.stage = stage;
    this.figures = new SessionFigures();
    this.player = /** @type {Player | null} */ (null);
    /** @type {Map<string, string>} text of open replies */
    this.texts = new Map();
    /** Whether the user is changing the threshold, so that confirmations of earlier values are not displayed. */
    this.changingThreshold = false;
    live.addEventListener("opened", (event) => this.#open(/** @type {CustomEvent} */ (event).detail));
    live.addEventListener("statechange", () => live.active || this.player?.finish());
    live.addEventListener("capture", (event) => this.#onCapture(/** @type {CustomEvent} */ (event).detail));
    live.addEventListener("event", (event) => this.#onEvent(/** @type {CustomEvent} */ (event).detail));
  }

  /** Show a moment again. @param {number} time */
  review(time) {
    this.player?.review(time);
  }

  /** Remove the player and everything that was displayed. */
  clear() {
    this.player?.destroy();
    this.player?.element.remove();
    this.player = null;
    this.figures = new SessionFigures();
    this.curve.clear();
    this.texts.clear();
  }

  /** @param {{source: import("./live_session.js").LiveSource, element: HTMLVideoElement | HTMLCanvasElement | null}} opened */
  #open({ source, element }) {
    this.clear();
    this.curve.setPolicy(this.live.duet?.speak ?? {});
    if (element !== null) this.#setPlayer(new CapturePlayer(element));
    else if (source.preview) this.#setPlayer(this.#filePlayer(source));
    else this.#setPlayer(new ThumbnailPlayer());
  }

  /** @param {import("./live_session.js").LiveSource} source */
  #filePlayer(source) {
    const player = new FilePlayer(new URL(source.preview ?? "", document.baseURI).href, source.previewStart);
    player.addEventListener("unplayable", () => {
      if (this.player !== player) return;
      this.#setPlayer(new ThumbnailPlayer());
      this.live.update({ thumbnails: true });
    });
    return player;
  }

  /** @param {Player} player */
  #setPlayer(player) {
    this.player?.destroy();
    this.player?.element.remove();
    this.player = player;
    player.addEventListener("mode", () => this.#emit("review", {}));
    this.stage.prepend(player.element);
  }

  /** @param {{seq: number, time: number, at: number}} capture */
  #onCapture(capture) {
    this.figures.addCapture(capture);
    if (this.player instanceof CapturePlayer) this.player.synchronize(capture.time, capture.at / 1000);
  }

  /** @param {Record<string, any>} event */
  #onEvent(event) {
    this.figures.addEvent(event, performance.now());
    switch (event.type) {
      case "input_frame.scored": return this.#onScored(event);
      case "input_frame.dropped": return this.curve.addMarker({ time: event.pts / 1e6, kind: "drop", score: null });
      case "input_frame.thumbnail": return this.#onThumbnail(event);
      case "session.updated": return this.#onUpdated(event);
      case "conversation.item.added": return this.#onTurn(event.item);
      case "response.created": return this.#onReply(event.response);
      case "response.output_text.delta": return this.#onText(event);
      case "response.done": return this.#onDone(event.response);
      default: return undefined;
    }
  }

  /** @param {any} event */
  #onScored({ pts, informative, relevance, decision }) {
    const time = pts / 1e6;
    this.curve.addScore({ time, informative, relevance, decision });
    this.player?.scored(time);
  }

  /** @param {any} event */
  #onThumbnail({ pts, image }) {
    if (this.player instanceof ThumbnailPlayer) this.player.addThumbnail(pts / 1e6, image);
  }

  /** @param {any} event */
  #onUpdated({ session }) {
    const { value, ...others } = session.duet.speak;
    this.curve.setPolicy(this.changingThreshold ? others : session.duet.speak);
  }

  /** @param {any} item */
  #onTurn(item) {
    if (item.role === "assistant") return;
    const text = item.content.map((/** @type {any} */ part) => part.text ?? "").filter(Boolean).join("\n");
    const time = typeof item.duet?.pts === "number" ? item.duet.pts / 1e6 : this.live.lastTime;
    if (text === "") return;
    if (item.role === "user") this.curve.addMarker({ time, kind: "query", score: null });
    this.#emit("turn", { text, time, role: item.role });
  }

  /** @param {any} response */
  #onReply({ id, duet }) {
    const time = typeof duet.trigger_pts === "number" ? duet.trigger_pts / 1e6 : null;
    const point = time === null ? null : this.curve.history.nearest(time);
    const [score, threshold] = [point?.score ?? null, point?.threshold ?? null];
    const comparison = describeComparison(describeScore(this.curve.policy.settings), score, threshold);
    if (time !== null) this.curve.addMarker({ time, kind: "reply", score, forced: duet.forced, id });
    this.texts.set(id, "");
    if (this.texts.size > MAX_OPEN_REPLIES) this.texts.delete(this.texts.keys().next().value ?? "");
    this.#emit("reply", { id, time, forced: duet.forced, comparison: duet.forced ? "asked to reply now" : comparison });
  }

  /** @param {any} event */
  #onText({ response_id: id, delta }) {
    this.texts.set(id, (this.texts.get(id) ?? "") + delta);
    this.#emit("text", { id, delta });
  }

  /** @param {any} response */
  #onDone({ id, status, usage, duet }) {
    const result = { id, status, text: this.texts.get(id) ?? "", firstWord: duet?.timing?.first_delta_ms ?? null,
      tokens: usage?.output_tokens ?? null };
    this.texts.delete(id);
    this.#emit("done", result);
  }

  /** @param {string} kind @param {any} detail */
  #emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}

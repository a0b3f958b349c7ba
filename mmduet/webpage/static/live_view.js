// @ts-check
/**
 * `<mmduet-live>`: one session with its video, scores, conversation and figures.
 *
 * Properties before `start`: `clientSecret`, `url` of the server (default: `../v1/realtime` of the page), `connectOptions` of
 * `connect`, `waitSeconds` in the queue, `helpUrl` of a page about HTTPS.
 * Events: `statechange` with the status, `settingschange` with `{duet}`, `error` with `{code, message}`.
 */
import "./conversation.js";
import { attachRoot, define, setText, whenRemoved } from "./elements.js";
import { ExportBox } from "./export_box.js";
import "./figures.js";
import { formatDuration, formatTime } from "./format.js";
import { LatestUpdate } from "./latest_update.js";
import { createLayout, liveSheet } from "./live_layout.js";
import { LiveSession } from "./live_session.js";
import { STATE_NAMES } from "./messages.js";
import "./score_curve.js";
import { SessionView } from "./session_view.js";
import { followTheme, themeSheet } from "./theme.js";

/** @typedef {import("./live_session.js").LiveSource} LiveSource */
/** @typedef {import("./live_session.js").LiveSettings} LiveSettings */

const REFRESH_MILLISECONDS = 200;

export class LiveView extends HTMLElement {
  constructor() {
    super();
    this.live = new LiveSession();
    this.helpUrl = "";
    this.parts = createLayout();
    this.sessionView = new SessionView(this.live, this.parts.curve, this.parts.stage);
    this.exports = new ExportBox(this.parts.exportPanel, this.live);
    this.threshold = new LatestUpdate(
      (/** @type {number} */ value) => this.live.update({ speak: { value } }),
      (busy) => this.#setChanging(busy),
    );
    this.#listenToSession();
    this.#listenToControls();
  }

  connectedCallback() {
    attachRoot(this, [themeSheet, liveSheet], this.parts.view);
    this.stopTheme = followTheme(this);
    this.timer = setInterval(() => this.#refresh(), REFRESH_MILLISECONDS);
    addEventListener("pagehide", this.#onPageHide);
    this.#showStatus();
  }

  disconnectedCallback() {
    clearInterval(this.timer);
    removeEventListener("pagehide", this.#onPageHide);
    this.stopTheme?.();
    whenRemoved(this, () => {
      this.live.close();
      this.sessionView.clear();
    });
  }

  /** Address of the server's endpoint. @param {string} url */
  set url(url) {
    this.live.url = url;
  }

  /** Credential of this tab. @param {any} clientSecret */
  set clientSecret(clientSecret) {
    this.live.connectOptions = { ...this.live.connectOptions, clientSecret };
  }

  /** Options of `connect`. @param {Record<string, any>} options */
  set connectOptions(options) {
    this.live.connectOptions = options;
  }

  /** Seconds to wait while the server is full. @param {number} seconds */
  set waitSeconds(seconds) {
    this.live.waitSeconds = seconds;
  }

  /** State of the session. */
  get state() {
    return this.live.state;
  }

  /** Whether a session is open or being opened. */
  get isRunning() {
    return this.live.active;
  }

  /** The newest events of the session, for `toJsonLines`. */
  get log() {
    return this.live.log;
  }

  /** What `toCommand` and `toPython` need; null before the first session. */
  get description() {
    return this.live.record();
  }

  /** The session of mmduet.js, or null. */
  get session() {
    return this.live.session;
  }

  /** @param {LiveSource} source @param {LiveSettings} [settings] */
  start(source, settings = {}) {
    this.#clear();
    const { speed } = this.parts;
    if (source.speed !== undefined) speed.value = String(source.speed ?? "");
    const chosen = speed.value === "" ? null : Number(speed.value);
    return this.live.start({ speed: chosen, ...source }, settings);
  }

  pause() {
    this.live.pause();
  }

  resume() {
    this.live.resume();
  }

  stop() {
    return this.live.stop();
  }

  restart() {
    this.#clear();
    return this.live.restart();
  }

  /** @param {number | null} speed 1 is real time, null as fast as frames are scored */
  setSpeed(speed) {
    this.parts.speed.value = String(speed ?? "");
    this.live.setSpeed(speed);
  }

  /** @param {string} text @param {{replyNow?: boolean}} [options] */
  ask(text, options) {
    this.live.ask(text, options);
  }

  /** Change settings of the session. @param {Record<string, any>} duet */
  update(duet) {
    if (duet.speak) this.parts.curve.setPolicy(duet.speak);
    return this.live.update(duet);
  }

  /** Show a moment of the video again. @param {number} time seconds @param {string | null} [id] of a reply */
  seek(time, id = null) {
    this.parts.curve.selected = id;
    this.parts.curve.redraw();
    this.parts.conversation.select(id);
    this.sessionView.review(time);
    this.#showReview();
  }

  backToLive() {
    this.sessionView.player?.backToLive();
  }

  #clear() {
    const { conversation, caption, captionText, captionWhy } = this.parts;
    this.sessionView.clear();
    conversation.clear();
    caption.hidden = true;
    for (const part of [captionText, captionWhy]) setText(part, "");
    this.#showReview();
  }

  #listenToSession() {
    const { live, sessionView, parts } = this;
    live.addEventListener("statechange", (event) => {
      this.#showStatus();
      this.#forward(event);
    });
    live.addEventListener("error", (event) => this.#forward(event));
    live.addEventListener("note", (event) => parts.conversation.addNote(detailOf(event).text));
    sessionView.addEventListener("turn", (event) => parts.conversation.addTurn(detailOf(event)));
    sessionView.addEventListener("review", () => this.#showReview());
    sessionView.addEventListener("reply", (event) => {
      const { id, comparison, ...trigger } = detailOf(event);
      parts.conversation.startReply(id, { ...trigger, comparison });
      setText(parts.captionText, "");
      setText(parts.captionWhy, comparison);
    });
    sessionView.addEventListener("text", (event) => {
      const { id, delta } = detailOf(event);
      parts.conversation.appendText(id, delta);
      parts.captionText.append(delta);
      parts.caption.hidden = false;
    });
    sessionView.addEventListener("done", (event) => this.#onDone(detailOf(event)));
  }

  /** @param {any} result */
  #onDone(result) {
    const { conversation, captionWhy } = this.parts;
    conversation.finishReply(result.id, result);
    if (result.firstWord !== null) captionWhy.append(` · first word after ${formatDuration(result.firstWord)}`);
  }

  #listenToControls() {
    const { parts } = this;
    parts.pause.addEventListener("click", () => (this.state === "paused" ? this.resume() : this.pause()));
    parts.stop.addEventListener("click", () => this.stop());
    parts.restart.addEventListener("click", () => this.restart());
    parts.speed.addEventListener("change", () => this.live.setSpeed(parts.speed.value === "" ? null : Number(parts.speed.value)));
    parts.exportButton.addEventListener("click", () => this.#toggleExport());
    parts.playHere.addEventListener("click", () => this.sessionView.player?.playReview());
    parts.backToLive.addEventListener("click", () => this.backToLive());
    parts.conversation.addEventListener("ask", (event) => {
      const { text, replyNow } = detailOf(event);
      if (text !== "") this.ask(text, { replyNow });
      else this.live.speakNow();
    });
    for (const part of [parts.curve, parts.conversation]) {
      part.addEventListener("seek", (event) => this.seek(detailOf(event).time, detailOf(event).id));
    }
    parts.curve.addEventListener("thresholdinput", (event) => this.threshold.push(detailOf(event).value));
    parts.curve.addEventListener("thresholdchange", (event) => {
      const { value } = detailOf(event);
      this.threshold.push(value);
      this.dispatchEvent(new CustomEvent("settingschange", { detail: { duet: { speak: { value } } } }));
    });
  }

  #toggleExport() {
    const { exportPanel, exportButton } = this.parts;
    exportPanel.hidden = !exportPanel.hidden;
    exportButton.setAttribute("aria-expanded", String(!exportPanel.hidden));
    if (!exportPanel.hidden) this.exports.show();
  }

  #showStatus() {
    const { live, parts } = this;
    const { state, text, code } = live.status;
    const running = state === "live" || state === "paused" || state === "retrying";
    parts.bar.dataset.state = state;
    parts.stage.dataset.kind = live.source?.kind ?? "";
    setText(parts.pill, STATE_NAMES[state]);
    setText(parts.message, text);
    parts.help.hidden = code !== "insecure_context" || this.helpUrl === "";
    if (this.helpUrl !== "") parts.help.href = this.helpUrl;
    parts.pause.disabled = !running || (state === "retrying" && live.captures);
    setText(parts.pause, state === "paused" ? "Resume" : "Pause");
    parts.stop.disabled = !live.active;
    parts.restart.disabled = live.source === null || state === "connecting";
    parts.speedLabel.hidden = live.source !== null && !live.readsFile;
    parts.exportButton.disabled = live.source === null;
    parts.conversation.enabled = running;
    this.#refresh();
  }

  #showReview() {
    const { player } = this.sessionView;
    const { parts } = this;
    parts.review.hidden = !player?.reviewing;
    parts.playHere.hidden = !player?.canPlayReview;
    if (!player?.reviewing && parts.curve.selected !== null) {
      parts.curve.selected = null;
      parts.conversation.select(null);
      parts.curve.redraw();
    }
    this.#refresh();
  }

  /** Display what changes with time. */
  #refresh() {
    const { live, parts, sessionView } = this;
    const { player, figures } = sessionView;
    const { retryAt } = live.status;
    const seconds = retryAt === undefined ? 0 : Math.ceil((retryAt - performance.now()) / 1000);
    setText(parts.countdown, retryAt === undefined ? "" : seconds > 0 ? `Retrying in ${seconds} s.` : "Retrying now.");
    setText(parts.reviewTime, `Showing ${formatTime(player?.time)}`);
    const times = figures.scored === 0 ? "" : `shown ${formatTime(player?.time)} · scored ${formatTime(live.lastTime)}`;
    setText(parts.times, times);
    parts.figures.show(figures, live.notSent);
    const playhead = player === null || figures.scored === 0 ? null : player.time;
    if (playhead !== parts.curve.playhead) {
      parts.curve.playhead = playhead;
      parts.curve.redraw();
    }
  }

  /** @param {boolean} busy */
  #setChanging(busy) {
    this.sessionView.changingThreshold = busy || this.parts.curve.handle.dragging;
  }

  /** @param {Event} event */
  #forward(event) {
    this.dispatchEvent(new CustomEvent(event.type, { detail: detailOf(event) }));
  }

  #onPageHide = () => this.live.close();
}

/** @param {Event} event */
function detailOf(event) {
  return /** @type {CustomEvent} */ (event).detail;
}

define("mmduet-live", LiveView);

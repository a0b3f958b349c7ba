// @ts-check
/**
 * One session of a live view: opens the source, connects, and keeps the state that is displayed. It has no elements.
 *
 * @typedef {object} LiveSource
 * @property {"clip" | "upload" | "url" | "camera" | "screen" | "playground"} kind
 * @property {string} [url] for the server: `clip:…`, `upload:…`, `rtsp://…`
 * @property {string} [preview] address of a video that the browser plays; thumbnails of the server are shown without it
 * @property {number} [previewStart] time of its first frame in seconds
 * @property {"tcp" | "udp"} [transport]
 * @property {number | null} [speed] of a file: 1 is real time, null as fast as frames are scored
 * @property {HTMLCanvasElement} [canvas] of the playground
 * @property {string} [deviceId] of a camera
 * @property {string} [title]
 * @property {string} [file] name of the uploaded file, for the exported command
 *
 * @typedef {object} LiveSettings
 * @property {string | null} [query] null: the model's own; "": none
 * @property {Record<string, any>} [duet]
 * @property {string} [model]
 *
 * @typedef {import("./messages.js").Status} Status
 */
import { CaptureError, openCapture } from "./capture.js";
import { EventLog } from "./event_log.js";
import { describeError, endedStatus, queuedStatus, retryingStatus } from "./messages.js";
import { connect, streamFrom } from "./mmduet.js";

const DEFAULT_FPS = 2;
const STOP_SECONDS = 3; // to finish pending frames and replies after a stop

/**
 * Events: `statechange` with a status, `opened` with `{source, element}`, `event` with each event of the server, `capture`
 * with `{seq, time, at}` of each captured frame, `note` with `{text}`.
 */
export class LiveSession extends EventTarget {
  /** @param {{url?: string, connectOptions?: Record<string, any>, waitSeconds?: number}} [options] */
  constructor({ url, connectOptions = {}, waitSeconds = 600 } = {}) {
    super();
    this.url = url ?? new URL("../v1/realtime", document.baseURI).href;
    this.connectOptions = connectOptions;
    this.waitSeconds = waitSeconds;
    /** @type {Status} */
    this.status = { state: "idle", text: "Choose a source to start." };
    this.log = new EventLog();
    /** @type {Array<{text: string, time: number}>} */
    this.queries = [];
    this.run = 0;
    this.paused = false;
    this.connecting = new AbortController();
    this.notSent_ = 0;
    this.confirmed = /** @type {any} */ (null); // the last session object of the server
    this.lastTime = 0; // of the last scored frame, in seconds
    this.session = /** @type {any} */ (null);
    this.pump = /** @type {any} */ (null);
    this.capture = /** @type {{video: HTMLVideoElement, stop: () => void} | null} */ (null);
    this.source = /** @type {LiveSource | null} */ (null);
    this.settings = /** @type {LiveSettings} */ ({});
  }

  get state() {
    return this.status.state;
  }

  /** Whether a session is open or being opened. */
  get active() {
    return !["idle", "ended", "failed"].includes(this.state);
  }

  /** Whether the server decodes a file, which has a speed and can be paused without loss. */
  get readsFile() {
    return this.source?.kind === "clip" || this.source?.kind === "upload";
  }

  /** Whether the browser captures the frames. */
  get captures() {
    return ["camera", "screen", "playground"].includes(this.source?.kind ?? "");
  }

  /** Settings of the session as the server has confirmed them; null before that. */
  get duet() {
    return this.session?.created?.duet ?? null;
  }

  /**
   * Open a source and a session for it; the previous session is closed.
   * @param {LiveSource} source
   * @param {LiveSettings} [settings]
   */
  async start(source, settings = {}) {
    this.#release();
    const run = ++this.run;
    Object.assign(this, { source, settings, lastTime: 0, queries: [], counts: null, notSent_: 0, paused: false });
    this.log.clear();
    this.#setStatus({ state: "connecting", text: source.kind === "camera" || source.kind === "screen"
      ? `Waiting for your permission to use the ${source.kind}.` : "Connecting to the server." });
    try {
      const element = await this.#openElement(source, run);
      if (run !== this.run) return;
      this.#setStatus({ state: "connecting", text: "Connecting to the server." });
      const session = await this.#connect(run);
      if (run !== this.run) return void session.close();
      await this.#begin(session, element, run);
    } catch (error) {
      if (run === this.run) this.#fail(/** @type {any} */ (error));
    }
  }

  /** Start the same source with the present settings. */
  restart() {
    if (this.source === null) return Promise.resolve();
    return this.start(this.source, this.settings);
  }

  pause() {
    if (this.session === null || this.paused) return;
    this.paused = true;
    if (this.pump !== null) this.pump.pause();
    else this.#attempt(() => this.session.updateSource({ paused: true }));
    this.#setLive();
  }

  resume() {
    if (this.session === null || !this.paused) return;
    this.paused = false;
    if (this.pump !== null) this.pump.resume();
    else this.#attempt(() => this.session.updateSource({ paused: false }));
    this.#setLive();
  }

  /** Finish what is pending, then end the session. */
  async stop() {
    if (!this.active) return;
    const { session, run } = this;
    if (session === null) {
      this.#release();
      this.run++;
      this.#setStatus({ state: "ended", text: "Stopped before the first frame." });
      return;
    }
    this.#stopInput();
    if (this.pump === null) this.#attempt(() => session.closeSource());
    this.#attempt(() => session.end());
    await Promise.race([closedOf(session), delay(STOP_SECONDS)]);
    if (run !== this.run || !this.active) return;
    this.#release();
    this.#setStatus({ state: "ended", text: "Stopped." });
  }

  /** End the session at once, because the page is left. */
  close() {
    this.run++;
    this.#release();
    if (this.active) this.#setStatus({ state: "ended", text: "The session was closed with the page." });
  }

  /** @param {number | null} speed 1 is real time, null as fast as frames are scored */
  setSpeed(speed) {
    if (this.source !== null) this.source = { ...this.source, speed };
    if (this.session !== null && this.readsFile) this.#attempt(() => this.session.updateSource({ speed }));
  }

  /** @param {string} text @param {{replyNow?: boolean}} [options] `replyNow`: regardless of the speak policy */
  ask(text, { replyNow = false } = {}) {
    if (this.session === null || text.trim() === "") return;
    this.queries.push({ text, time: this.lastTime });
    this.#attempt(() => this.session.ask(text, { time: this.lastTime }));
    if (replyNow) this.speakNow();
  }

  /** Request a reply regardless of the speak policy. */
  speakNow() {
    if (this.session !== null) this.#attempt(() => this.session.speakNow());
  }

  /** Frames that were dropped before they were sent. */
  get notSent() {
    this.notSent_ = Math.max(this.notSent_, (this.session?.frames?.dropped ?? 0) + (this.pump?.dropped ?? 0));
    return this.notSent_;
  }

  /**
   * Return what the exports need, or null before the first session.
   * @returns {import("./export_session.js").SessionRecord | null}
   */
  record() {
    const { source, confirmed, queries } = this;
    if (source === null || confirmed === null) return null;
    const server = this.url.replace(/^http/, "ws");
    return { source, server, queries, model: confirmed.model, maxOutputTokens: confirmed.max_output_tokens, duet: confirmed.duet };
  }

  /**
   * Change settings of the session.
   * @param {Record<string, any>} duet
   */
  async update(duet) {
    const speak = { ...this.settings.duet?.speak, ...duet.speak };
    this.settings = { ...this.settings, duet: { ...this.settings.duet, ...duet, ...(duet.speak ? { speak } : {}) } };
    if (this.session === null) return;
    try {
      await this.session.update({ duet });
    } catch (error) {
      this.#report(/** @type {any} */ (error));
    }
  }

  /** @param {LiveSource} source @param {number} run */
  async #openElement(source, run) {
    if (source.kind === "playground") return source.canvas ?? null;
    if (source.kind !== "camera" && source.kind !== "screen") return null;
    const onEnded = () => {
      if (run !== this.run) return;
      this.#note(`The ${source.kind} was disconnected or is not shared any more.`);
      this.stop();
    };
    const capture = await openCapture(source.kind, { deviceId: source.deviceId, onEnded });
    if (run !== this.run) {
      capture.stop();
      return null;
    }
    this.capture = capture;
    return capture.video;
  }

  /** @param {number} run */
  #connect(run) {
    this.connecting = new AbortController();
    const current = (/** @type {(detail: any) => void} */ use) => (/** @type {any} */ detail) => run === this.run && use(detail);
    return connect(this.url, {
      ...this.connectOptions,
      model: this.settings.model ?? this.connectOptions.model,
      waitSeconds: this.waitSeconds,
      signal: this.connecting.signal,
      onQueued: current((queue) => this.#setStatus(queuedStatus(queue))),
      onConnectionChange: current((change) => this.#onConnection(change)),
    });
  }

  /** @param {any} session @param {HTMLVideoElement | HTMLCanvasElement | null} element @param {number} run */
  async #begin(session, element, run) {
    this.session = session;
    const { source, settings } = this;
    if (source === null) return;
    this.confirmed = session.created;
    this.log.add({ type: "session.created", session: session.created });
    session.addEventListener("event", (/** @type {CustomEvent} */ { detail }) => run === this.run && this.#onEvent(detail));
    const thumbnails = element === null && !source.preview ? { thumbnails: true } : {};
    const duet = { ...settings.duet, ...thumbnails };
    if (Object.keys(duet).length > 0) await session.update({ duet });
    if (run !== this.run) return;
    this.#emit("opened", { source, element });
    const query = settings.query ?? session.created.duet.query ?? "";
    if (query.trim() !== "") this.ask(query);
    if (element !== null) {
      this.#startPump(session, element);
      this.#setLive();
    } else {
      const options = this.readsFile ? { speed: source.speed === undefined ? 1 : source.speed } : { transport: source.transport };
      session.openSource(source.url ?? "", options);
    }
  }

  /** @param {any} session @param {HTMLVideoElement | HTMLCanvasElement} element */
  #startPump(session, element) {
    this.pump = streamFrom(session, element, { fps: session.created.duet.fps ?? DEFAULT_FPS });
    this.pump.addEventListener("error", (/** @type {CustomEvent} */ { detail }) => this.#fail(detail));
    this.pump.addEventListener("frame", (/** @type {CustomEvent} */ { detail }) => {
      this.#emit("capture", { seq: detail.seq, time: detail.time, at: detail.capturedAt });
    });
  }

  /** @param {Record<string, any>} event */
  #onEvent(event) {
    this.log.add(event);
    if (event.type === "session.updated") this.confirmed = event.session;
    if (event.type === "input_frame.scored") this.lastTime = Math.max(this.lastTime, event.pts / 1e6);
    this.#emit("event", event);
    if (event.type === "input_frame.scored" && this.state === "connecting") this.#setLive();
    else if (event.type === "input_source.opened") this.#setLive();
    else if (event.type === "input_source.updated") this.#onSource(event);
    else if (event.type === "input_source.closed") this.#onSourceClosed(event);
    else if (event.type === "session.warning") this.#note(event.message);
    else if (event.type === "error") this.#onError(event.error);
    else if (event.type === "session.closed") this.#onClosed(event);
  }

  /** @param {any} event */
  #onSource({ state, retry_in_s: seconds, message }) {
    if (state === "retrying") this.#setStatus(retryingStatus("The source is not available", message, seconds));
    else if (state === "connecting") this.#setStatus({ state: "connecting", text: "Opening the source." });
    else this.#setLive();
  }

  /** @param {any} event */
  #onSourceClosed({ reason, message }) {
    if (reason === "failed") this.lastError = { code: this.lastError?.code ?? "bad_source", message };
    if (reason === "ended") this.#attempt(() => this.session.end());
  }

  /** @param {{code: string, message: string}} error */
  #onError(error) {
    this.lastError = error;
    if (this.state === "connecting") this.#fail(error); // the source was not accepted
    else this.#report(error);
  }

  /** @param {any} event */
  #onClosed(event) {
    const failed = event.reason === "failed";
    this.counts = event.frames;
    this.#stopInput();
    if (failed) this.#fail(this.lastError ?? { code: "internal", message: "The session failed" });
    else this.#setStatus(endedStatus(event));
    this.session = null;
  }

  /** @param {{state: string, seconds?: number, retrySeconds?: number, reason?: string}} change */
  #onConnection({ state, seconds, retrySeconds, reason }) {
    if (state === "retrying") {
      this.#setStatus(retryingStatus("The connection to the server was lost", reason, retrySeconds));
    } else if (state === "resumed") {
      this.#note(`The connection was lost for ${(seconds ?? 0).toFixed(1)} s; the session was resumed.`);
      this.#setLive();
    } else if (state === "gave_up") {
      this.#fail({ code: "connection_lost", message: `The connection was lost${reason ? ` (${reason})` : ""}` });
    }
  }

  #setLive() {
    if (this.paused) this.#setStatus({ state: "paused", text: "The model gets no new frames. You can still ask." });
    else this.#setStatus({ state: "live", text: "" });
  }

  /** @param {{code?: string, message?: string, name?: string}} error */
  #fail(error) {
    const code = error.code ?? "internal";
    const text = error instanceof CaptureError ? error.message : describeError({ code, message: error.message });
    this.#release();
    this.#setStatus({ state: "failed", text, code });
    this.#emit("error", { code, message: text });
  }

  /** Report an error after which the session continues. @param {{code?: string, message?: string}} error */
  #report(error) {
    const text = describeError(error);
    this.#note(text);
    this.#emit("error", { code: error.code ?? "internal", message: text });
  }

  #stopInput() {
    this.pump?.stop();
    this.capture?.stop();
    this.capture = null;
  }

  #release() {
    this.#stopInput();
    this.connecting.abort();
    this.session?.close();
    this.session = this.pump = null;
    this.lastError = undefined;
  }

  /** @param {Status} status */
  #setStatus(status) {
    this.status = status;
    this.#emit("statechange", status);
  }

  /** @param {string} text */
  #note(text) {
    this.#emit("note", { text });
  }

  /** @param {string} kind @param {any} detail */
  #emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /** Call a method of the session and report its error. @param {() => void} request */
  #attempt(request) {
    try {
      request();
    } catch (error) {
      if (this.active) this.#report(/** @type {any} */ (error));
    }
  }
}

/** @param {any} session */
function closedOf(session) {
  return new Promise((resolve) => session.addEventListener("session.closed", resolve, { once: true }));
}

/** @param {number} seconds */
function delay(seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

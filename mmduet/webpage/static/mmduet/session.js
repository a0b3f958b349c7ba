// @ts-check
/** A session at a server, which reconnects and resumes by itself. */

import { MmduetError } from "./errors.js";
import { EventStream } from "./event_stream.js";
import { messageBytes, packFrame } from "./frame_message.js";
import { Link } from "./link.js";

/** @typedef {import("./event_stream.js").ServerEvent} ServerEvent */
/** @typedef {import("./reconnection.js").ConnectionChange} ConnectionChange */

/**
 * The session object of the protocol.
 * @typedef {{id: string, model: string, instructions: string | null, max_output_tokens: number, duet: Record<string, any>} &
 *   Record<string, any>} SessionObject
 */

const DEFAULT_MAX_QUEUE = 32;
const DEFAULT_MAX_UNSCORED = 8;

/**
 * Options of `connect`.
 * @typedef {object} ConnectOptions
 * @property {string | null} [key] API key
 * @property {import("./client_secret.js").ClientSecret | string | null} [clientSecret] instead of a key
 * @property {string} [model] name of the model; by default the one that is served
 * @property {number} [waitSeconds] how long to wait for a session if the server is full; by default not at all
 * @property {number | null} [maxFrameAge] age in seconds from which on frames are dropped by the client and by the server; null:
 *   keep them however old they are; by default as the server is configured
 * @property {number | null} [maxReconnectSeconds] how long to try to reconnect; by default a minute, or as long as the server
 *   keeps the session if that is longer
 * @property {number} [maxQueue] frames that may wait to be sent; beyond it the oldest is dropped (32)
 * @property {number} [maxUnscored] frames that may be sent without an outcome; beyond it frames wait (8)
 * @property {(queue: {position: number, estimatedWait: number | null}) => void} [onQueued] called while waiting; position 1 is the next
 * @property {(change: ConnectionChange) => void} [onConnectionChange]
 * @property {AbortSignal} [signal] stops connecting, or ends the session
 */

/**
 * A session. `connect` opens it.
 *
 * It dispatches every event of the protocol as a `CustomEvent` of the event's type and also as `event`; `detail` is the
 * event. Further events: `connection` (`detail`: `ConnectionChange`), `drain` (a frame can be sent at once again), and `end`
 * (the last one; `detail`: the error or null). Errors about an `update` reject its promise and are not dispatched.
 */
export class Session extends EventTarget {
  #link;
  #maxQueue;
  #seq = 0;
  #updateCount = 0;
  /** By event id, oldest first. @type {Map<string, {resolve: (session: SessionObject) => void, reject: (error: MmduetError) => void}>} */
  #updates = new Map();
  /** @type {Set<EventStream>} */
  #streams = new Set();
  #removeListeners = () => {};
  /** @type {(error: MmduetError | null) => void} */
  #settle = () => {};
  /** Session object with its limits and current settings. @type {SessionObject} */
  created = /** @type {any} */ (null);
  /** Why the session ended early, or null. @type {MmduetError | null} */
  error = null;
  /** Time of the newest frame that was pushed, in seconds. @type {number | null} */
  lastFrameTime = null;

  /**
   * Use `connect`.
   * @param {string | URL} server
   * @param {ConnectOptions} options
   */
  constructor(server, options) {
    super();
    const { key, clientSecret, model, maxFrameAge } = options;
    this.#maxQueue = Math.max(options.maxQueue ?? DEFAULT_MAX_QUEUE, 1);
    this.#link = new Link(
      {
        server,
        key: (typeof clientSecret === "string" ? clientSecret : key) || null,
        clientSecret: typeof clientSecret === "string" ? null : clientSecret ?? null,
        model,
        maxFrameAge,
        waitSeconds: options.waitSeconds ?? 0,
        maxReconnectSeconds: options.maxReconnectSeconds ?? null,
        maxUnscored: Math.max(options.maxUnscored ?? DEFAULT_MAX_UNSCORED, 1),
      },
      {
        onEvent: (event) => this.#onEvent(event),
        onQueued: (queue) => callSafely(options.onQueued, queue),
        onConnectionChange: (change) => {
          callSafely(options.onConnectionChange, change);
          this.#dispatch("connection", change);
        },
        onWritable: () => this.#dispatch("drain", null),
        onEnd: (error) => this.#onEnd(error),
      },
    );
  }

  /**
   * Connect, and wait until the session has been created. Called by `connect`.
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<Session>}
   */
  async open(signal) {
    signal?.throwIfAborted();
    const abort = () => this.close();
    const leave = (/** @type {PageTransitionEvent} */ event) => event.persisted || this.close();
    signal?.addEventListener("abort", abort);
    globalThis.addEventListener?.("pagehide", leave);
    this.#removeListeners = () => {
      signal?.removeEventListener("abort", abort);
      globalThis.removeEventListener?.("pagehide", leave);
    };
    const opened = new Promise((resolve, reject) => {
      this.#settle = (error) => (error === null ? resolve(null) : reject(error));
    });
    this.#link.run();
    await opened;
    signal?.throwIfAborted();
    return this;
  }

  /** Whether the session has ended. */
  get isEnded() {
    return this.#link.isEnded;
  }

  /** Whether a frame that is pushed now would be sent at once. */
  get isWritable() {
    return this.#link.isWritable;
  }

  /** Time of the first frame that was sent, in seconds, to which the server's frame rate refers. @type {number | null} */
  get firstFrameTime() {
    return this.#link.frames.origin;
  }

  /** How many frames there were, by what became of them. */
  get frames() {
    return this.#link.frames.counts(this.#link.queuedFrames);
  }

  // Input

  /**
   * Send a frame and return its number. It waits while the server is behind or the connection is lost; if more than `maxQueue`
   * frames wait, the oldest is dropped and counted in `frames.dropped`. Throws `MmduetError`.
   * @param {Blob | ArrayBuffer | ArrayBufferView<ArrayBuffer>} image JPEG, PNG or WebP
   * @param {number} time seconds on the clock of the video; it must increase
   * @returns {number}
   */
  push(image, time) {
    this.#checkNotEnded();
    const message = packFrame(this.#seq, time, image);
    this.#checkSize(message);
    const seq = this.#seq++;
    this.lastFrameTime = time;
    this.#link.sendFrame({ message, frame: { seq, time, at: performance.now() } });
    while (this.#link.queuedFrames > this.#maxQueue) this.#link.dropOldestFrame();
    return seq;
  }

  /** Wait until a frame would be sent at once. Rejects if the session ends before. @returns {Promise<void>} */
  async writable() {
    while (!this.isWritable) {
      this.#checkNotEnded();
      await new Promise((resolve) => {
        const proceed = () => {
          this.removeEventListener("drain", proceed);
          this.removeEventListener("end", proceed);
          resolve(null);
        };
        this.addEventListener("drain", proceed);
        this.addEventListener("end", proceed);
      });
    }
  }

  /**
   * Send a query, which is read after the frames that were pushed before.
   * @param {string} text
   * @param {{time?: number}} [options] `time` in seconds is only repeated in the events of the query
   */
  ask(text, { time } = {}) {
    this.#appendTurn("user", text, { keep: true, time });
  }

  /**
   * Send context such as a transcript line.
   * @param {string} text
   * @param {{time?: number, keep?: boolean}} [options] `keep` pins it in the window
   */
  addContext(text, { time, keep = false } = {}) {
    this.#appendTurn("system", text, { keep, time });
  }

  /**
   * Change settings: `update({duet: {speak: {value: 0.6}}})`. Resolves with the session object; rejects with `MmduetError` if the
   * server does not accept them, and the session continues with its previous settings.
   * @param {Record<string, any>} settings the `session` of `session.update`
   * @returns {Promise<SessionObject>}
   */
  update(settings) {
    return new Promise((resolve, reject) => {
      const event_id = `update-${this.#updateCount++}`;
      this.#updates.set(event_id, { resolve, reject });
      try {
        this.send("session.update", { session: { type: "realtime", ...settings }, event_id });
      } catch (error) {
        this.#updates.delete(event_id);
        throw error;
      }
    });
  }

  /**
   * Let the server read frames from a source that its settings allow. Whether it can be read is reported by `input_source.opened`,
   * `input_source.closed` or `error`.
   * @param {string} url
   * @param {{transport?: "tcp" | "udp", speed?: number | null}} [options] `speed`: 1 is real time, null as fast as it is scored
   */
  openSource(url, options = {}) {
    this.send("input_source.open", { url, ...options });
  }

  /** Pause, resume or change the speed of the source. @param {{paused?: boolean, speed?: number | null}} changes */
  updateSource(changes) {
    this.send("input_source.update", changes);
  }

  /** Stop reading from the source. */
  closeSource() {
    this.send("input_source.close");
  }

  /** Request a reply regardless of the speak policy. */
  speakNow() {
    this.send("response.create");
  }

  /** Stop the reply that is being generated. */
  cancel() {
    this.send("response.cancel", {}, { urgent: true });
  }

  /** Announce that no more frames follow. The server finishes what is pending, then sends `session.closed`. */
  end() {
    this.send("input_frame.end");
  }

  /** End the session at once, without waiting for what is pending. */
  close() {
    this.#link.end(null);
  }

  /**
   * Send any event of the protocol.
   * @param {string} type
   * @param {Record<string, any>} [fields]
   * @param {{urgent?: boolean}} [options] `urgent`: before the frames that wait
   */
  send(type, fields = {}, options = {}) {
    this.#checkNotEnded();
    const event = { type, ...fields };
    this.#checkSize(JSON.stringify(event));
    this.#link.send(event, options);
  }

  // Events

  /**
   * Iterate over the events from now on. The iteration ends after `session.closed` or `close`, and throws the error that ends
   * the session early. Iterators are independent of each other.
   * @returns {AsyncIterableIterator<ServerEvent>}
   */
  [Symbol.asyncIterator]() {
    const stream = new EventStream(() => this.#streams.delete(stream));
    if (this.isEnded) stream.end(this.error);
    else this.#streams.add(stream);
    return stream;
  }

  /**
   * @param {"user" | "system"} role
   * @param {string} text
   * @param {{keep: boolean, time: number | undefined}} options
   */
  #appendTurn(role, text, { keep, time }) {
    const duet = time === undefined ? { keep } : { keep, pts: Math.round(time * 1e6) };
    const item = { type: "message", role, content: [{ type: "input_text", text }], duet };
    this.send("conversation.item.create", { item });
  }

  #checkNotEnded() {
    if (this.isEnded) throw this.error ?? new MmduetError("session_closed", "the session has ended; open another");
  }

  /** @param {string | Blob | Uint8Array} message */
  #checkSize(message) {
    const limit = this.created?.duet.limits?.max_message_bytes ?? Infinity;
    const size = messageBytes(message);
    if (size <= limit) return;
    throw new MmduetError("bad_option", `a message must have at most ${limit} bytes, got ${size}; send smaller images or texts`);
  }

  /** @param {ServerEvent} event */
  #onEvent(event) {
    if (event.type === "session.created") {
      this.#applySession(event.session);
      this.#settle(null);
    } else if (event.type === "session.updated") {
      this.#applySession(event.session);
      this.#finishUpdate(this.#updates.keys().next().value, null);
    } else if (event.type === "session.resync_required") {
      const error = new MmduetError("connection_lost", "the answer was lost with the connection; send the update again");
      for (const id of [...this.#updates.keys()]) this.#finishUpdate(id, error);
    } else if (event.type === "error" && this.#updates.has(event.error.event_id)) {
      const { code, message, param } = event.error;
      this.#finishUpdate(event.error.event_id, new MmduetError(code, message, { param }));
      return;
    }
    this.#dispatch(event.type, event);
    this.#dispatch("event", event);
    for (const stream of this.#streams) stream.add(event);
  }

  /** @param {SessionObject} session */
  #applySession(session) {
    const { query, limits, resume_token } = this.created?.duet ?? session.duet; // these are sent once
    this.created = { ...session, duet: { ...session.duet, query, limits, resume_token } };
    this.#link.maxFrameAge = session.duet.max_frame_age ?? null;
    this.#link.frames.setReportsEveryFrame(session.duet.ack ?? true);
  }

  /**
   * @param {string | undefined} id
   * @param {MmduetError | null} error
   */
  #finishUpdate(id, error) {
    const update = id === undefined ? undefined : this.#updates.get(id);
    if (id === undefined || update === undefined) return;
    this.#updates.delete(id);
    if (error === null) update.resolve(this.created);
    else update.reject(error);
  }

  /** @param {MmduetError | null} error */
  #onEnd(error) {
    this.error = error;
    const reason = error ?? new MmduetError("session_closed", "the session has ended; open another");
    this.#settle(reason);
    for (const id of [...this.#updates.keys()]) this.#finishUpdate(id, reason);
    for (const stream of this.#streams) stream.end(error);
    this.#streams.clear();
    this.#removeListeners();
    this.#dispatch("end", error);
  }

  /**
   * @param {string} type
   * @param {any} detail
   */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * Call a function of the page; report what it throws without disturbing the session.
 * @template T
 * @param {((argument: T) => void) | undefined} callback
 * @param {T} argument
 */
function callSafely(callback, argument) {
  try {
    callback?.(argument);
  } catch (error) {
    reportError(error);
  }
}

// @ts-check
/** The connections of one session: it is resumed on another one when one is lost, without losing or repeating anything. */

import { realtimeUrl } from "./address.js";
import { Connection } from "./connection.js";
import { MmduetError, toMmduetError } from "./errors.js";
import { FrameTracker } from "./frame_counts.js";
import { Outbox } from "./outbox.js";
import { openingError, resumingError, TRY_AGAIN_LATER } from "./permanent_errors.js";
import { Reconnection } from "./reconnection.js";
import { after, every } from "./timers.js";

/** @typedef {import("./connection.js").Loss} Loss */
/** @typedef {import("./event_stream.js").ServerEvent} ServerEvent */
/** @typedef {import("./outbox.js").Entry} Entry */

const HEARTBEAT_SECONDS = 5;
const ANSWER_SECONDS = 20; // in which a heartbeat, or the first message, must be answered
const MESSAGES_PER_HEARTBEAT = 32;
const MAX_UNCONFIRMED = 256; // messages
const MAX_BUFFERED_BYTES = 64 << 10;
const BUFFER_POLL_SECONDS = 0.05;
const MIN_RECONNECT_SECONDS = 60;

/**
 * @typedef {object} LinkOptions
 * @property {string | URL} server
 * @property {string | null} key
 * @property {import("./client_secret.js").ClientSecret | null} clientSecret
 * @property {string | undefined} model
 * @property {number} waitSeconds
 * @property {number | null | undefined} maxFrameAge seconds; undefined: as the server's session
 * @property {number | null} maxReconnectSeconds
 * @property {number} maxUnscored
 */

/**
 * @typedef {object} LinkHandlers
 * @property {(event: ServerEvent) => void} onEvent
 * @property {(queue: {position: number, estimatedWait: number | null}) => void} onQueued
 * @property {(change: import("./reconnection.js").ConnectionChange) => void} onConnectionChange
 * @property {() => void} onWritable called when a frame can be sent at once
 * @property {(error: MmduetError | null) => void} onEnd
 */

export class Link {
  #options;
  #handlers;
  #outbox = new Outbox();
  #reconnection;
  /** @type {Connection | null} */
  #connection = null;
  /** The session of `session.created`. @type {any} */
  #session = null;
  #isReady = false; // whether messages can be sent
  #isEnded = false;
  #isWaiting = false; // whether the client is in the server's queue
  #waitEnd = 0; // milliseconds
  #lastEvent = 0; // number of the last event
  #sentInPeriod = 0;
  #receivedInPeriod = 0;
  /** @type {number | null} milliseconds */
  #heartbeatAt = null;
  #wasWritable = false;
  #wake = () => {};
  /** @type {import("./timers.js").Cancel} */
  #cancelPoll = () => {};
  /** @type {import("./timers.js").Cancel} */
  #cancelAnswerTimeout = () => {};
  /** @type {Set<import("./timers.js").Cancel>} */
  #timers = new Set();
  /** Age in seconds from which on frames are not sent. @type {number | null} */
  maxFrameAge = null;
  frames = new FrameTracker();

  /**
   * @param {LinkOptions} options
   * @param {LinkHandlers} handlers
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#reconnection = new Reconnection(handlers.onConnectionChange);
    this.#waitEnd = performance.now() + options.waitSeconds * 1000;
  }

  get isEnded() {
    return this.#isEnded;
  }

  get queuedFrames() {
    return this.#outbox.queuedFrames;
  }

  /** Whether a frame would be sent at once. */
  get isWritable() {
    return this.#isReady && this.#outbox.queuedFrames === 0 && this.#canSendFrame();
  }

  /** Connect, and reconnect until the session ends. */
  async run() {
    this.#timers.add(every(HEARTBEAT_SECONDS, () => this.#onPeriod()));
    try {
      while (!this.#isEnded) {
        const loss = await this.#runConnection();
        this.#isReady = this.#wasWritable = false;
        if (!this.#isEnded) await this.#afterLoss(loss);
      }
    } catch (error) {
      this.end(toMmduetError(error));
    }
  }

  /**
   * End the session.
   * @param {MmduetError | null} error why; null for an end that was expected
   */
  end(error) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#isReady = false;
    this.#connection?.close();
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.frames.dropped += this.#outbox.queuedFrames;
    this.#outbox.clear();
    this.#wake();
    if (error !== null && this.#session !== null) this.#reconnection.gaveUp(error);
    this.#handlers.onEnd(error);
  }

  /**
   * Send an event, after the frames that wait, or before them if it is urgent.
   * @param {Record<string, any>} event
   * @param {{urgent?: boolean}} [options]
   */
  send(event, { urgent = false } = {}) {
    this.#queue({ message: JSON.stringify(event), frame: null }, urgent);
  }

  /** @param {Entry} entry */
  sendFrame(entry) {
    this.#queue(entry, false);
  }

  /** Drop the oldest frame that waits to be sent. */
  dropOldestFrame() {
    if (this.#outbox.dropOldestFrame() !== undefined) this.frames.dropped++;
  }

  /**
   * @param {Entry} entry
   * @param {boolean} urgent
   */
  #queue(entry, urgent) {
    if (urgent) this.#outbox.insertNext(entry);
    else this.#outbox.append(entry);
    this.#flush();
  }

  #flush() {
    while (this.#isReady && this.#sendNext());
    const isWritable = this.isWritable;
    const became = isWritable && !this.#wasWritable;
    this.#wasWritable = isWritable;
    if (became) this.#handlers.onWritable();
  }

  /** Send the next message, and return whether the one after it may follow. */
  #sendNext() {
    const entry = this.#outbox.peek();
    if (entry === undefined) return false;
    const { message, frame } = entry;
    if (frame !== null) {
      if (this.maxFrameAge !== null && performance.now() - frame.at > this.maxFrameAge * 1000) {
        this.dropOldestFrame();
        return true;
      }
      if (!this.#canSendFrame()) return false;
      this.frames.onSent(frame.seq, frame.time);
    }
    this.#connection?.send(message);
    this.#sentInPeriod++;
    if ((this.#outbox.markSent() + 1) % MESSAGES_PER_HEARTBEAT === 0) this.#sendHeartbeat();
    return true;
  }

  #canSendFrame() {
    if (this.frames.pending >= this.#options.maxUnscored || this.#outbox.unconfirmed >= MAX_UNCONFIRMED) return false;
    if ((this.#connection?.bufferedAmount ?? 0) <= MAX_BUFFERED_BYTES) return true;
    this.#cancelPoll();
    this.#cancelPoll = this.#after(BUFFER_POLL_SECONDS, () => this.#flush());
    return false;
  }

  #sendHeartbeat() {
    this.#heartbeatAt ??= performance.now();
    this.#outbox.insertNext({ message: JSON.stringify({ type: "session.heartbeat" }), frame: null });
  }

  /** Keep the session alive, and notice a connection that is dead. */
  #onPeriod() {
    if (!this.#isReady) return;
    if (this.#heartbeatAt !== null && performance.now() - this.#heartbeatAt > ANSWER_SECONDS * 1000) {
      this.#connection?.abandon(`no answer within ${ANSWER_SECONDS} s`);
      return;
    }
    if (this.#sentInPeriod === 0 || this.#receivedInPeriod === 0) this.#sendHeartbeat();
    this.#sentInPeriod = this.#receivedInPeriod = 0;
    this.#flush();
  }

  // Connections

  /** @returns {Promise<Loss>} */
  async #runConnection() {
    const credential = await this.#credential();
    if (this.#isEnded) return { wasOpen: false, code: 1000, reason: "closed" };
    const connection = new Connection(this.#url(), credential, {
      onOpen: () => this.#onOpen(),
      onMessage: (text) => this.#onMessage(text),
    });
    this.#connection = connection;
    this.#heartbeatAt = null;
    const cancel = this.#after(ANSWER_SECONDS, () => connection.abandon("it is not an mmduet server, or it is overloaded"));
    this.#cancelAnswerTimeout = cancel;
    const loss = await connection.lost;
    cancel();
    return loss;
  }

  /** @returns {Promise<string | null>} */
  async #credential() {
    const { key, clientSecret } = this.#options;
    if (clientSecret === null) return key;
    try {
      return await clientSecret.value();
    } catch (error) {
      if (this.#session === null) throw error;
      return clientSecret.latest; // the session can be resumed with an expired secret
    }
  }

  #url() {
    const { server, model, maxFrameAge } = this.#options;
    const url = realtimeUrl(server);
    if (model !== undefined) url.searchParams.set("model", model);
    if (this.#session !== null) {
      url.searchParams.set("resume", this.#session.id);
      return url;
    }
    if (maxFrameAge !== undefined) url.searchParams.set("max_frame_age", String(maxFrameAge));
    const wait = this.#remainingWait;
    if (wait > 0) url.searchParams.set("wait", wait.toFixed(3));
    return url;
  }

  get #remainingWait() {
    return Math.max((this.#waitEnd - performance.now()) / 1000, 0);
  }

  #onOpen() {
    if (this.#session === null) return;
    const { id, duet } = this.#session;
    const last_event_id = `event_${String(this.#lastEvent).padStart(12, "0")}`;
    this.#connection?.send(
      JSON.stringify({ type: "session.resume", session_id: id, resume_token: duet.resume_token ?? "", last_event_id }),
    );
  }

  /** Wait before the next attempt. Throws the error that ends the session instead. @param {Loss} loss */
  async #afterLoss(loss) {
    const error = await this.#permanentError(loss);
    if (this.#isEnded) return;
    if (error !== null) throw error;
    const pause = this.#reconnection.nextPause(loss.reason, this.#reconnectSeconds);
    if (pause === null) {
      const seconds = this.#reconnection.seconds.toFixed(0);
      throw new MmduetError("connection_lost", `connection lost (${loss.reason}), gave up after ${seconds} s; open a new session`);
    }
    await new Promise((resolve) => {
      const cancel = this.#after(pause, () => resolve(null));
      this.#wake = () => {
        cancel();
        resolve(null);
      };
    });
  }

  /** Return why a retry cannot help, or null. @param {Loss} loss */
  async #permanentError(loss) {
    const { server, model } = this.#options;
    if (this.#session !== null) return resumingError(server, loss, this.#options.clientSecret === null ? this.#options.key : null);
    if (this.#isWaiting && this.#remainingWait > 0 && loss.code !== TRY_AGAIN_LATER) return null;
    return openingError(server, loss, await this.#credential(), model);
  }

  get #reconnectSeconds() {
    if (this.#session === null) return this.#reconnection.seconds + this.#remainingWait;
    const timeToLive = this.#session.duet.limits?.time_to_live_s ?? 0;
    return this.#options.maxReconnectSeconds ?? Math.max(MIN_RECONNECT_SECONDS, timeToLive);
  }

  // Events

  /** @param {string} text */
  #onMessage(text) {
    try {
      this.#receivedInPeriod++;
      this.#process(JSON.parse(text));
    } catch (error) {
      this.end(error instanceof SyntaxError ? new MmduetError("server", "the server sent an event that is not JSON") : toMmduetError(error));
    }
  }

  /** @param {ServerEvent} event */
  #process(event) {
    const number = Number(/^event_(\d{12})$/.exec(event.event_id ?? "")?.[1] ?? 0);
    if (number > 0 && number <= this.#lastEvent) return;
    this.#lastEvent = Math.max(this.#lastEvent, number);
    this.#heartbeatAt = null;
    this.#cancelAnswerTimeout();
    if (this.#session === null) this.#beforeSession(event);
    else if (this.#track(event)) this.#handlers.onEvent(event);
    if (event.type === "session.closed") this.end(null);
    else this.#flush();
  }

  /** @param {ServerEvent} event */
  #beforeSession(event) {
    if (event.type === "session.queued") {
      this.#isWaiting = true;
      this.#handlers.onQueued({ position: event.position, estimatedWait: event.estimated_wait_s ?? null });
    } else if (event.type === "error") {
      const { code, message, param } = event.error;
      throw new MmduetError(code, message, { param });
    } else if (event.type === "session.created") {
      this.#session = event.session;
      this.#isReady = true;
      this.#reconnection.opened();
      this.#handlers.onEvent(event);
    }
  }

  /** Update the state from an event, and return whether the event is reported. @param {ServerEvent} event */
  #track(event) {
    switch (event.type) {
      case "session.heartbeat_ack":
        this.#outbox.acknowledge(event.last_consumed_client_message_index);
        return false;
      case "session.resumed":
      case "session.resync_required":
        this.#onResumed(event);
        return true;
      case "session.expired":
        throw new MmduetError("connection_lost", "the session has expired at the server; open a new session");
      case "session.replaced":
        throw new MmduetError("connection_lost", "the session was resumed on another connection");
      case "input_frame.scored":
      case "input_frame.dropped":
        this.frames.onOutcome(/** @type {any} */ (event));
    }
    return true;
  }

  /** @param {ServerEvent} event */
  #onResumed({ type, last_consumed_client_message_index: lastConsumed }) {
    this.frames.onLost(this.#outbox.rewind(lastConsumed));
    const isComplete = type === "session.resumed";
    if (!isComplete) this.frames.onEventsLost();
    this.#isReady = true;
    this.#reconnection.resumed(isComplete ? "" : "the server no longer has all events since the loss");
  }

  /**
   * Call a function after some time unless the session ends before.
   * @param {number} seconds
   * @param {() => void} callback
   */
  #after(seconds, callback) {
    const cancel = after(seconds, () => {
      this.#timers.delete(cancel);
      callback();
    });
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }
}

// @ts-check
/** Takes frames from a video, a canvas or a stream at the frame rate of the model, and pushes them into a session. */

import { MmduetError } from "./errors.js";
import { openPictureSource } from "./picture_source.js";
import { every } from "./timers.js";

const DEFAULT_FPS = 2;
const CHECKS_PER_FRAME = 4;
const MAX_CHECKS_PER_SECOND = 60;
const TOLERANCE_SECONDS = 1e-7; // the server's is larger, so that it takes what is sent here
const MAX_STEP_BACK_SECONDS = 0.25; // by which the time of a playing video may vary

/**
 * Options of `streamFrom`.
 * @typedef {object} PumpOptions
 * @property {number} [fps] frames per second of the media's clock; by default that of the session
 * @property {number} [maxSide] longest side of the JPEG images in pixels (384)
 * @property {number} [quality] of the JPEG images, from 0 to 1 (0.85)
 * @property {number} [maxQueue] frames that may wait while the session cannot send; beyond it the oldest is dropped (2)
 */

/**
 * Detail of the event `frame`.
 * @typedef {object} PushedFrame
 * @property {number} seq number of the frame in the events of the session
 * @property {number} time of the frame in the session, in seconds
 * @property {number} mediaTime its time on the clock of the media: another than `time` after a jump back
 * @property {number} capturedAt when it was taken, in milliseconds of `performance.now()`
 */

/** @typedef {Omit<PushedFrame, "seq"> & {image: Uint8Array<ArrayBuffer>}} CapturedFrame */

/**
 * Sends frames until `stop`, the end of the stream, or the end of the session.
 *
 * Events: `frame` (`detail`: `PushedFrame`), `error` (`detail`: `MmduetError`, for pictures that cannot be read; the pump has
 * stopped), `ended` (the stream has ended).
 */
export class FramePump extends EventTarget {
  #session;
  #source;
  #fps;
  #maxSide;
  #quality;
  #maxQueue;
  #canvas = document.createElement("canvas");
  #context;
  /** @type {CapturedFrame[]} */
  #queue = [];
  #cancelTimer;
  #offset = 0; // of the session's time to the media's
  /** The last frame. @type {{time: number, mediaTime: number} | null} */
  #last = null;
  #paused = false;
  #stopped = false;
  #dropped = 0;

  /**
   * Use `streamFrom`.
   * @param {import("./session.js").Session} session
   * @param {HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | MediaStream} source
   * @param {PumpOptions} [options]
   */
  constructor(session, source, { fps, maxSide = 384, quality = 0.85, maxQueue = 2 } = {}) {
    super();
    this.#session = session;
    this.#fps = fps ?? session.created.duet.fps ?? DEFAULT_FPS;
    checkPositive("fps", this.#fps);
    checkPositive("maxSide", maxSide);
    checkPositive("maxQueue", maxQueue);
    this.#maxSide = maxSide;
    this.#quality = quality;
    this.#maxQueue = maxQueue;
    this.#context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true }));
    this.#source = openPictureSource(source, this.#onEnded);
    this.#cancelTimer = every(1 / Math.min(this.#fps * CHECKS_PER_FRAME, MAX_CHECKS_PER_SECOND), this.#check);
    session.addEventListener("drain", this.#flush);
    session.addEventListener("end", this.#stop);
  }

  /** Frames that were dropped before they were pushed, because the session could not send. */
  get dropped() {
    return this.#dropped;
  }

  get paused() {
    return this.#paused;
  }

  get stopped() {
    return this.#stopped;
  }

  /** Take no frames until `resume`. */
  pause() {
    this.#paused = true;
  }

  resume() {
    this.#paused = false;
  }

  /** Stop for good. Frames that wait are dropped and counted; the source is not stopped. */
  stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancelTimer();
    this.#session.removeEventListener("drain", this.#flush);
    this.#session.removeEventListener("end", this.#stop);
    this.#source.release();
    this.#dropped += this.#queue.length;
    this.#queue = [];
  }

  #stop = () => this.stop();

  #onEnded = () => {
    this.stop();
    this.dispatchEvent(new Event("ended"));
  };

  #check = () => {
    if (this.#paused || this.#stopped) return;
    const size = this.#source.size();
    if (size === null) return;
    const mediaTime = this.#source.time();
    const time = this.#sessionTime(mediaTime);
    if (time === null || !this.#isDue(time)) return;
    this.#last = { time, mediaTime };
    const frame = { time, mediaTime, capturedAt: performance.now() };
    try {
      this.#enqueue({ ...frame, image: this.#encode(size) });
    } catch (cause) {
      this.#fail(cause);
    }
  };

  /**
   * Return the time of a picture in the session, which always increases, or null for a picture that was there before.
   * @param {number} mediaTime
   */
  #sessionTime(mediaTime) {
    const newest = this.#last?.time ?? this.#session.lastFrameTime;
    if (newest === null || mediaTime + this.#offset > newest) return mediaTime + this.#offset;
    const isContinued = this.#last !== null && mediaTime > this.#last.mediaTime - MAX_STEP_BACK_SECONDS;
    if (isContinued) return null;
    this.#offset = newest + 1 / this.#fps - mediaTime; // the video was moved back or repeats, or another pump was used before
    return newest + 1 / this.#fps;
  }

  /** Return whether a frame is due, by the same rule as the server's. @param {number} time */
  #isDue(time) {
    if (this.#last === null) return true;
    const origin = this.#session.firstFrameTime ?? this.#last.time;
    const tick = (/** @type {number} */ at) => Math.floor((at - origin + TOLERANCE_SECONDS) * this.#fps);
    return tick(time) > tick(this.#last.time);
  }

  /**
   * Return the current picture as JPEG. It is encoded at once: the asynchronous methods of canvases wait for idle time.
   * @param {{width: number, height: number}} size
   */
  #encode({ width, height }) {
    const scale = Math.min(1, this.#maxSide / Math.max(width, height));
    const [scaledWidth, scaledHeight] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
    if (this.#canvas.width !== scaledWidth) this.#canvas.width = scaledWidth;
    if (this.#canvas.height !== scaledHeight) this.#canvas.height = scaledHeight;
    this.#context.imageSmoothingQuality = "medium";
    this.#context.drawImage(this.#source.image, 0, 0, scaledWidth, scaledHeight);
    const text = atob(this.#canvas.toDataURL("image/jpeg", this.#quality).split(",", 2)[1]);
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  }

  /** @param {CapturedFrame} frame */
  #enqueue(frame) {
    this.#queue.push(frame);
    this.#flush();
    while (this.#queue.length > this.#maxQueue) {
      this.#queue.shift();
      this.#dropped++;
    }
  }

  #flush = () => {
    while (this.#queue.length > 0 && this.#session.isWritable) {
      const { image, ...frame } = /** @type {CapturedFrame} */ (this.#queue.shift());
      const seq = this.#session.push(image, frame.time);
      this.dispatchEvent(new CustomEvent("frame", { detail: { seq, ...frame } }));
    }
  };

  /** @param {unknown} cause */
  #fail(cause) {
    this.stop();
    const isForeign = /** @type {Error} */ (cause)?.name === "SecurityError";
    const advice = "its pictures come from another origin; set crossorigin on the video and allow it there (CORS)";
    const message = isForeign ? `the source cannot be read: ${advice}` : `the source cannot be read: ${cause}`;
    const error = cause instanceof MmduetError ? cause : new MmduetError("bad_source", message, { cause });
    this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }
}

/**
 * Push frames from a source into a session. The frames have the times of the media: of the video's position, or the time since
 * the begin for a canvas.
 * @param {import("./session.js").Session} session
 * @param {HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | MediaStream} source
 * @param {PumpOptions} [options]
 * @returns {FramePump}
 */
export function streamFrom(session, source, options) {
  return new FramePump(session, source, options);
}

/**
 * @param {string} name
 * @param {number} value
 */
function checkPositive(name, value) {
  if (!(value > 0)) throw new MmduetError("bad_option", `${name} must be above 0, got ${value}`);
}

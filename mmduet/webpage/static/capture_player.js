// @ts-check
/** Shows a camera, a screen or a canvas of the page with the delay of the model: up to the last frame that has been scored. */
import { AnimationLoop } from "./animation_loop.js";
import { element } from "./elements.js";
import { PlaybackClock } from "./playback_clock.js";
import { StillStore } from "./still_store.js";

const CAPTURES_PER_SECOND = 10;
const MAX_SIDE = 400; // pixels
const MAX_CAPTURES = 50; // 5 seconds that wait for their scores: at most 32 MB
const STILL_SIDE = 320;
const MAX_STILLS = 600; // JPEG, about 10 kB each

/**
 * Emits `mode` after a change of `reviewing`.
 */
export class CapturePlayer extends EventTarget {
  /** @param {HTMLVideoElement | HTMLCanvasElement} source */
  constructor(source) {
    super();
    this.source = source;
    this.clock = new PlaybackClock();
    this.reviewing = false;
    this.canPlayReview = false;
    /** @type {StillStore<ImageBitmap>} */
    this.captures = new StillStore(MAX_CAPTURES, (bitmap) => bitmap.close());
    /** @type {StillStore<Blob>} */
    this.stills = new StillStore(MAX_STILLS);
    this.offset = /** @type {number | null} */ (null); // of the session's time to the wall time, in seconds
    this.time = 0;
    this.destroyed = false;
    this.element = element("canvas", {
      class: "picture", width: 320, height: 180, role: "img", "aria-label": "What the model has seen so far",
    });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.element.getContext("2d"));
    this.timer = setInterval(() => this.#capture(), 1000 / CAPTURES_PER_SECOND);
    this.loop = new AnimationLoop(() => this.#tick());
  }

  /**
   * Relate the session's time to the wall time.
   * @param {number} time of a frame that was captured for the model, in seconds
   * @param {number} now wall time of its capture, in seconds
   */
  synchronize(time, now) {
    this.offset = time - now;
  }

  /** @param {number} time of a frame that has been scored, in seconds */
  scored(time) {
    this.clock.scored(time, performance.now() / 1000);
    this.loop.wake();
    this.#keepStill(time);
  }

  /** Show the closest picture that is still in memory. @param {number} time */
  review(time) {
    const still = this.stills.nearest(time);
    if (still === null) return;
    this.#setReviewing(true);
    createImageBitmap(still.picture).then((bitmap) => {
      if (this.reviewing) this.#draw(bitmap, still.time);
      bitmap.close();
    });
  }

  playReview() {}

  backToLive() {
    this.#setReviewing(false);
    this.loop.wake();
  }

  /** Whether the picture does not change: it shows the last scored frame. */
  get isAtRest() {
    return this.loop.request === null;
  }

  /** Called when the session has ended: nothing more is captured. */
  finish() {
    clearInterval(this.timer);
  }

  destroy() {
    this.destroyed = true;
    clearInterval(this.timer);
    this.loop.stop();
    this.captures.clear();
    this.stills.clear();
  }

  #capture() {
    const size = sizeOf(this.source);
    const waiting = this.captures.entries.length >= MAX_CAPTURES; // scores have stopped: nothing newer may be displayed
    if (this.offset === null || this.busy || waiting || size === null || document.hidden) return;
    const time = performance.now() / 1000 + this.offset;
    const scale = Math.min(1, MAX_SIDE / Math.max(size.width, size.height));
    this.busy = true;
    createImageBitmap(this.source, {
      resizeWidth: Math.max(1, Math.round(size.width * scale)), resizeHeight: Math.max(1, Math.round(size.height * scale)),
    }).then((bitmap) => (this.destroyed ? bitmap.close() : this.captures.add(time, bitmap)), () => {}).finally(() => {
      this.busy = false;
    });
  }

  /** Return whether a later picture may follow without a new score. */
  #tick() {
    const position = this.clock.position(performance.now() / 1000);
    if (this.clock.limit === null) return false;
    const entry = this.captures.newestUntil(position);
    this.captures.removeBefore(position);
    if (entry !== null && !this.reviewing && entry.time !== this.time) this.#draw(entry.picture, entry.time);
    return position < this.clock.limit;
  }

  /** @param {ImageBitmap} bitmap @param {number} time */
  #draw(bitmap, time) {
    if (this.element.width !== bitmap.width || this.element.height !== bitmap.height) {
      this.element.width = bitmap.width;
      this.element.height = bitmap.height;
    }
    this.context.drawImage(bitmap, 0, 0);
    this.time = time;
  }

  /** @param {number} time */
  #keepStill(time) {
    const entry = this.captures.nearest(time);
    if (entry === null) return;
    const { width, height } = entry.picture;
    const scale = Math.min(1, STILL_SIDE / Math.max(width, height));
    const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
    canvas.getContext("2d")?.drawImage(entry.picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && this.stills.add(time, blob), "image/jpeg", 0.75);
  }

  /** @param {boolean} reviewing */
  #setReviewing(reviewing) {
    if (this.reviewing === reviewing) return;
    this.reviewing = reviewing;
    this.dispatchEvent(new Event("mode"));
  }
}

/**
 * Return the size of the source's present picture, or null without one.
 * @param {HTMLVideoElement | HTMLCanvasElement} source
 */
function sizeOf(source) {
  const [width, height] =
    source instanceof HTMLVideoElement ? [source.videoWidth, source.videoHeight] : [source.width, source.height];
  return width > 0 && height > 0 ? { width, height } : null;
}

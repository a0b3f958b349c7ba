// @ts-check
/** Shows the preview of a file that the server decodes, paced by the frames that have been scored. */
import { AnimationLoop } from "./animation_loop.js";
import { element } from "./elements.js";
import { PlaybackClock } from "./playback_clock.js";

const MAX_ERROR_SECONDS = 0.6; // of wall time between video and clock; beyond it the video is positioned, not paced
const RATE_STEP = 0.04; // smallest relative change of the playback rate
const MIN_RATE = 0.0625; // Chromium's limits
const MAX_RATE = 16;
const STOP_SECONDS = 0.04; // before the limit: how long it takes until `pause` has an effect

/**
 * Emits `unplayable` if the browser cannot play the file, `mode` after a change of `reviewing`.
 */
export class FilePlayer extends EventTarget {
  /** @param {string} address of the preview @param {number} [start] the player's time of the first frame, in seconds */
  constructor(address, start = 0) {
    super();
    this.start = start;
    this.clock = new PlaybackClock();
    this.reviewing = false;
    this.canPlayReview = true;
    this.video = element("video", {
      class: "picture", src: address, muted: true, playsinline: true, preload: "auto", tabindex: "-1",
      disablepictureinpicture: true, "aria-label": "Video, as far as its frames have been scored",
    });
    this.element = this.video;
    this.video.addEventListener("error", () => this.dispatchEvent(new Event("unplayable")));
    this.video.addEventListener("timeupdate", () => this.#stopAtLimit());
    this.video.addEventListener("loadedmetadata", () => this.loop.wake());
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.loop = new AnimationLoop(() => this.#tick());
    this.resizes = new ResizeObserver(() => this.loop.wake()); // a hidden player has no size; it may be visible now
    this.resizes.observe(this.video);
  }

  /** Time of the displayed frame, in seconds. */
  get time() {
    return Math.max(0, this.video.currentTime - this.start);
  }

  /** @param {number} time of a frame that has been scored, in seconds */
  scored(time) {
    this.clock.scored(time + this.start, performance.now() / 1000);
    this.loop.wake();
  }

  /** Show the frame at a time, as far as it has been scored. @param {number} time */
  review(time) {
    this.#setReviewing(true);
    this.playing = false;
    this.video.pause();
    this.video.currentTime = Math.max(0, Math.min(time + this.start, this.clock.limit ?? 0));
  }

  /** Play from the displayed frame up to the last scored one. */
  playReview() {
    this.playing = true;
    this.video.playbackRate = 1;
    this.#play();
  }

  backToLive() {
    this.#setReviewing(false);
    this.loop.wake();
  }

  /** Whether the video does not move: it has reached the last scored frame, or is hidden. */
  get isAtRest() {
    return this.loop.request === null;
  }

  /** Called when the session has ended: the video still advances to the last scored frame. */
  finish() {}

  destroy() {
    this.loop.stop();
    this.resizes.disconnect();
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  #onVisibility = () => {
    if (document.hidden) this.video.pause(); // no animation frames to stop it at the limit
    else this.loop.wake();
  };

  /** Return whether the video moves on. */
  #tick() {
    if (!this.video.checkVisibility()) {
      this.video.pause();
      return false;
    }
    if (this.reviewing) {
      this.#stopAtLimit();
      return !this.video.paused;
    }
    if (this.clock.limit === null || this.video.readyState === 0) return false;
    this.#follow(this.clock.limit);
    return !this.#hasArrived(this.clock.limit);
  }

  /** Return whether the video shows the last frame that it may show. @param {number} limit */
  #hasArrived(limit) {
    const { video, clock } = this;
    const end = this.#end(limit);
    const isAtEnd = Math.abs(end - video.currentTime) <= 0.001;
    return video.paused && !video.seeking && isAtEnd && clock.position(performance.now() / 1000) >= end;
  }

  /** @param {number} limit */
  #end(limit) {
    return Math.min(limit, Math.max(0, (this.video.duration || Infinity) - 0.01));
  }

  /** @param {number} limit */
  #follow(limit) {
    const { video, clock } = this;
    const end = this.#end(limit);
    const position = Math.min(clock.position(performance.now() / 1000), end);
    const error = position - video.currentTime;
    if (video.seeking) return;
    if (video.currentTime > end + 0.001 || Math.abs(error) > MAX_ERROR_SECONDS * Math.max(1, clock.rate)) {
      video.currentTime = position;
    }
    this.#stopAtLimit();
    if (video.currentTime >= end - STOP_SECONDS * Math.max(1, clock.rate) || position >= end) {
      if (video.paused && error > 0.001) video.currentTime = position; // the last step, which is too short to be played
      return;
    }
    const rate = Math.min(Math.max(clock.rate + error, MIN_RATE), MAX_RATE);
    if (Math.abs(rate / video.playbackRate - 1) > RATE_STEP) video.playbackRate = rate;
    if (video.paused) this.#play();
  }

  #stopAtLimit() {
    const limit = this.clock.limit ?? 0;
    if (!this.video.paused && this.video.currentTime >= limit - STOP_SECONDS * this.video.playbackRate) {
      this.video.pause();
      if (this.reviewing && this.playing) this.backToLive();
    }
  }

  #play() {
    if (document.hidden) return;
    this.loop.wake();
    this.video.play().catch(() => {}); // interrupted by the next pause, or reported by the event `error`
  }

  /** @param {boolean} reviewing */
  #setReviewing(reviewing) {
    this.playing = false;
    if (this.reviewing === reviewing) return;
    this.reviewing = reviewing;
    this.dispatchEvent(new Event("mode"));
  }
}

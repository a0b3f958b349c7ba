// @ts-check
/**
 * The position of the displayed video: it advances evenly and never beyond the last frame that has been scored.
 *
 * Scores arrive at the rate of the sampled frames (nano: 4 per second), a video is displayed at its own. The clock therefore runs
 * about one sampling interval behind the scores and adapts its rate to their arrival. If scores stop, it stops at the last one.
 */

const MARGIN = 1.15; // the next score is expected this much later than on average, so that the video rarely stops
const SMOOTHING = 0.25;
const MAX_BEHIND_SECONDS = 1.5; // of wall time; the clock jumps if it is further behind
const MAX_GAP_SECONDS = 3; // between scores; a longer gap is a pause and does not count in the average

export class PlaybackClock {
  constructor() {
    /** Time of the last scored frame in seconds, or null. @type {number | null} */
    this.limit = null;
    this.rate = 0;
    this.start = 0; // position at the wall time `updated`
    this.updated = 0;
    /** @type {number | null} */
    this.arrived = null;
    /** Mean wall time between two scores in seconds. @type {number | null} */
    this.gap = null;
    this.interval = 0; // mean time of the video between two scored frames
  }

  /**
   * Advance the limit to a frame that has been scored.
   * @param {number} time of the frame, in seconds
   * @param {number} now wall time in seconds
   */
  scored(time, now) {
    if (this.limit === null) {
      this.limit = this.start = time;
      this.updated = this.arrived = now;
      return;
    }
    if (time <= this.limit) return;
    const position = this.position(now);
    this.#measure(time - this.limit, now);
    this.limit = time;
    this.start = position;
    this.updated = now;
    const gap = Math.max(this.gap ?? this.interval, 0.005);
    const rate = (time - position) / (gap * MARGIN);
    const usual = this.interval / gap;
    if (time - position > Math.max(2.5 * this.interval, MAX_BEHIND_SECONDS * usual)) this.start = time - this.interval;
    this.rate = Math.min(Math.max(rate, 0), 3 * usual);
  }

  /**
   * Return the time of the video to display, in seconds.
   * @param {number} now wall time in seconds
   */
  position(now) {
    if (this.limit === null) return 0;
    return Math.min(this.start + Math.max(0, now - this.updated) * this.rate, this.limit);
  }

  /** @param {number} interval seconds of video between the last two scored frames @param {number} now */
  #measure(interval, now) {
    const gap = now - (this.arrived ?? now);
    this.arrived = now;
    this.interval = this.interval === 0 ? interval : this.interval + SMOOTHING * (interval - this.interval);
    if (gap > MAX_GAP_SECONDS) return;
    this.gap = this.gap === null ? gap : this.gap + SMOOTHING * (gap - this.gap);
  }
}

// @ts-check
/** The recent positions of the hand that drags a shape. */

/** @typedef {import("./playground_shapes.js").Point} Point */

/** Time over which the hand's speed is measured, in seconds. */
const SPEED_SECONDS = 0.1;
const KEPT_SECONDS = 0.5;

/** Positions of a pointer, by time. */
export class PointerTrack {
  /**
   * @param {number} time
   * @param {Point} point
   */
  constructor(time, point) {
    /** @type {{time: number, point: Point}[]} */
    this.samples = [{ time, point }];
  }

  /** The latest position. */
  get last() {
    return this.samples[this.samples.length - 1].point;
  }

  /**
   * Add a position; times must not decrease.
   * @param {number} time
   * @param {Point} point
   */
  add(time, point) {
    this.samples.push({ time, point });
    while (this.samples.length > 2 && this.samples[1].time < time - KEPT_SECONDS) this.samples.shift();
  }

  /**
   * Return the latest position at `time`.
   * @param {number} time
   * @returns {Point}
   */
  at(time) {
    const earlier = this.samples.filter((sample) => sample.time <= time);
    return (earlier.length > 0 ? earlier[earlier.length - 1] : this.samples[0]).point;
  }

  /**
   * Return the speed just before `time`, in sides of the frame per second.
   * @param {number} time
   */
  speed(time) {
    const [from, to] = [this.at(time - SPEED_SECONDS), this.at(time)];
    return Math.hypot(to.x - from.x, to.y - from.y) / SPEED_SECONDS;
  }
}

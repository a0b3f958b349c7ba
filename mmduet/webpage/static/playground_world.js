// @ts-check
/**
 * The playground's world: shapes, what happens to them, and the log of it.
 *
 * nano was trained on one event at a time, with a pause after each. The world therefore executes actions one by one: movements
 * have the trained speed, and the next action starts `PAUSE_SECONDS` after the end of the last one. It has no clock of its own:
 * `advance` is called with the time, in seconds.
 */

import { Refusal, newShape, plan } from "./playground_actions.js";
import { Following, handOf } from "./playground_motion.js";
import { PointerTrack } from "./playground_pointer.js";
import { besideFrame, insideFrame, isClear, isPathClear, obstaclesOf, sideBeyond } from "./playground_rules.js";
import { SIDES, SIDE_NAMES, distance } from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Point} Point */
/** @typedef {import("./playground_shapes.js").Side} Side */
/** @typedef {import("./playground_actions.js").Command} Command */
/** @typedef {import("./playground_actions.js").Look} Look */
/** @typedef {import("./playground_motion.js").Drag} Drag */
/** @typedef {import("./playground_motion.js").Motion} Motion */
/** @typedef {import("./playground_captions.js").Action} Action */
/** @typedef {Look & Point} Placed */

/** Pause between two actions, in seconds. */
export const PAUSE_SECONDS = 1.2;
const STEP_SECONDS = 1 / 120;
/** Pull of a fast hand at which a shape starts to follow, in sides of the frame, and the speed of a fast hand. */
const FAST_PULL = 0.04;
const FAST_SPEED = 0.25;
/** Pull of a slow hand at which a shape starts to follow. */
const SLOW_PULL = 0.22;
/** A shape that is pulled less than this stays where it is. */
const MIN_PULL = 0.1;
/** Speed below which a hand rests. */
const REST_SPEED = 0.06;
const MAX_WAITING = 4;
/** After this time without a shape, one enters on its own: nano does not know scenes that stay empty. */
const EMPTY_SECONDS = 3;

/** Everything on the canvas. */
export class World {
  /** @type {Shape[]} */ shapes = [];
  /** @type {Motion | null} */ motion = null;
  /** @type {Drag | null} */ drag = null;
  /** @type {Command[]} */ waiting = [];
  /** Time from which the next action may start. */
  readyAt;
  #emptySince;

  /**
   * @param {object} options
   * @param {number} options.time the time now
   * @param {() => number} [options.random]
   * @param {(action: Action) => void} [options.onAction] called at the end of each action
   * @param {(reason: string) => void} [options.onRefusal] called for a command that has become impossible while it waited
   */
  constructor({ time, random = Math.random, onAction = () => {}, onRefusal = () => {} }) {
    this.time = time;
    this.readyAt = time;
    this.#emptySince = time;
    this.random = random;
    this.onAction = onAction;
    this.onRefusal = onRefusal;
  }

  /**
   * Place shapes that are there from the beginning.
   * @param {Placed[]} looks
   */
  place(looks) {
    for (const look of looks) {
      const shape = newShape(this.shapes, look, look, this.random);
      if (!(shape instanceof Refusal) && isClear(this.shapes, shape, shape)) this.shapes.push(shape);
    }
  }

  /** Whether nothing moves and nothing waits to move. */
  get isAtRest() {
    return this.motion === null && this.waiting.length === 0 && this.drag === null;
  }

  /**
   * Execute what happens until `time`.
   * @param {number} time
   */
  advance(time) {
    while (this.time + STEP_SECONDS <= time) {
      this.time += STEP_SECONDS;
      this.#step();
    }
  }

  /**
   * Execute a command, at once or after those before it. Return the reason if that is not possible, else null.
   * @param {Command} command
   * @returns {string | null}
   */
  execute(command) {
    if (this.motion === null && this.waiting.length === 0) {
      const start = plan(this.shapes, command, this.random);
      if (start instanceof Refusal) return start.text;
    }
    if (this.waiting.length >= MAX_WAITING) return "Please wait until the shapes rest.";
    this.waiting.push(command);
    return null;
  }

  /** Let all shapes leave, one after the other. */
  clear() {
    const visible = this.shapes.filter((shape) => shape.behind === null);
    this.waiting = visible.map((shape) => ({ type: "leave", shape }));
  }

  /**
   * Return the shape at a point, the nearest one first. A hidden shape is found at the centre of its cover.
   * @param {Point} point
   * @param {number} hiddenRadius
   * @returns {Shape | null}
   */
  shapeAt(point, hiddenRadius) {
    const found = this.shapes.filter((shape) => distance(shape, point) < (shape.behind ? hiddenRadius : shape.radius));
    found.sort((a, b) => Number(b.behind !== null) - Number(a.behind !== null) || b.depth - a.depth);
    return found[0] ?? null;
  }

  /**
   * Grab a shape at a point.
   * @param {Shape} shape
   * @param {Point} point
   */
  grab(shape, point) {
    const offset = { x: shape.x - point.x, y: shape.y - point.y };
    const track = new PointerTrack(this.time, point);
    this.drag = { shape, track, offset, released: false, isNew: false, entry: null };
  }

  /**
   * Grab a new shape outside of the frame. Return the reason if that is not possible, else null.
   * @param {Partial<Look>} look
   * @param {Point} point
   * @returns {string | null}
   */
  grabNew(look, point) {
    const shape = newShape(this.shapes, look, point, this.random);
    if (shape instanceof Refusal) return shape.text;
    const track = new PointerTrack(this.time, point);
    this.drag = { shape, track, offset: { x: 0, y: 0 }, released: false, isNew: true, entry: sideBeyond(point) };
    return null;
  }

  /**
   * Move the hand that holds a shape.
   * @param {Point} point
   */
  moveHand(point) {
    const { drag } = this;
    drag?.track.add(this.time, point);
    if (drag?.isNew) drag.entry = sideBeyond(point) ?? drag.entry;
  }

  /** Release the shape. If it has not started to follow, it will go to where it was released. */
  release() {
    const { drag } = this;
    if (drag === null) return;
    drag.released = true;
    this.drag = null;
    const follows = this.motion instanceof Following && this.motion.drag === drag;
    if (follows) return;
    const hand = handOf(drag, this.time);
    if (drag.isNew ? sideBeyond(hand) !== null : distance(hand, drag.shape) < MIN_PULL) return;
    this.waiting.push({ type: "drop", shape: drag.shape, drag });
  }

  #step() {
    if (this.motion !== null) {
      this.#stepMotion(this.motion);
    } else if (this.time >= this.readyAt) {
      this.#startNext();
    }
    for (const shape of this.shapes) {
      if (shape.behind) [shape.x, shape.y] = [shape.behind.x, shape.behind.y];
    }
  }

  /** @param {Motion} motion */
  #stepMotion(motion) {
    const end = motion.step(this.shapes, this.time, STEP_SECONDS);
    if (end === null) return;
    const action = motion.describe(end);
    motion.finish();
    if (action?.kind === "leave") this.#remove(motion.shape);
    this.motion = null;
    this.readyAt = action === null ? this.time : end + PAUSE_SECONDS;
    if (action !== null) this.onAction(action);
  }

  #startNext() {
    if (this.drag !== null && this.#startsToFollow(this.drag)) {
      this.#begin(new Following(this.drag, this.time, this.#enter(this.drag)));
    } else if (this.waiting.length > 0) {
      this.#startWaiting(/** @type {Command} */ (this.waiting.shift()));
    } else if (this.shapes.length > 0 || this.drag !== null) {
      this.#emptySince = this.time;
    } else if (this.time - this.#emptySince > EMPTY_SECONDS) {
      this.#startWaiting({ type: "add" });
    }
  }

  /** @param {Command} command */
  #startWaiting(command) {
    const start = plan(this.shapes, command, this.random);
    if (start instanceof Refusal) this.onRefusal(start.text);
    else this.#begin(start(this.time));
  }

  /** @param {Motion} motion */
  #begin(motion) {
    this.motion = motion;
    if (!this.shapes.includes(motion.shape)) this.shapes.push(motion.shape);
  }

  /**
   * Return whether a held shape starts to follow now: a fast hand at once, a slow one once it has rested or is far away.
   *
   * So each movement has about the trained speed and length, however slow the hand is.
   * @param {Drag} drag
   */
  #startsToFollow(drag) {
    const hand = handOf(drag, this.time);
    if (drag.isNew && (sideBeyond(hand) !== null || !this.#canEnter(drag))) return false;
    const pull = distance(hand, drag.shape);
    const speed = drag.track.speed(this.time);
    if (speed > FAST_SPEED) return pull > FAST_PULL;
    return pull > (speed < REST_SPEED ? MIN_PULL : SLOW_PULL);
  }

  /** @param {Drag} drag */
  #canEnter(drag) {
    const { begin, end } = this.#entry(drag);
    return isPathClear(obstaclesOf(this.shapes, drag.shape), drag.shape, begin, end);
  }

  /**
   * Return where a new shape enters: beside the frame, on the side that the hand came from.
   * @param {Drag} drag
   */
  #entry(drag) {
    const hand = handOf(drag);
    const depth = (/** @type {Side} */ side) => 0.5 - (hand.x - 0.5) * SIDES[side].x - (hand.y - 0.5) * SIDES[side].y;
    const side = drag.entry ?? SIDE_NAMES.reduce((a, b) => (depth(b) < depth(a) ? b : a));
    const end = insideFrame(hand, drag.shape.radius);
    return { side, end, begin: besideFrame(end, side, drag.shape.radius) };
  }

  /**
   * Place a new shape where it enters, and return the side; null for a shape that is on the canvas.
   * @param {Drag} drag
   * @returns {Side | null}
   */
  #enter(drag) {
    if (!drag.isNew) return null;
    const { side, begin } = this.#entry(drag);
    [drag.shape.x, drag.shape.y] = [begin.x, begin.y];
    drag.isNew = false;
    return side;
  }

  /**
   * Remove a shape that has left, and what hides behind it.
   * @param {Shape} shape
   */
  #remove(shape) {
    shape.separate();
    this.shapes = this.shapes.filter((other) => other !== shape && other.behind !== shape);
    if (this.drag && !this.shapes.includes(this.drag.shape) && !this.drag.isNew) this.drag = null;
  }
}

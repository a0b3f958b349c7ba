// @ts-check
/**
 * Movements and changes of one shape over time. Each is stepped by the world until it returns the time of its end, and then
 * describes itself as an action.
 */

import {
  directionOf,
  enterText,
  leaveText,
  meetText,
  moveText,
  resizeText,
  turnText,
} from "./playground_captions.js";
import { clearDistance, goalAt, obstaclesOf, sideBeyond, stepTowards } from "./playground_rules.js";
import { RADII, clamp, distance } from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Point} Point */
/** @typedef {import("./playground_shapes.js").Side} Side */
/** @typedef {import("./playground_shapes.js").Colour} Colour */
/** @typedef {import("./playground_shapes.js").Size} Size */
/** @typedef {import("./playground_rules.js").Goal} Goal */
/** @typedef {import("./playground_captions.js").Action} Action */
/** @typedef {import("./playground_pointer.js").PointerTrack} PointerTrack */
/**
 * A hand that holds a shape. `offset` is the shape's centre relative to the pointer where it was grabbed. A new shape has not
 * entered yet; `entry` is the side at which the hand last was outside of the frame.
 * @typedef {{shape: Shape, track: PointerTrack, offset: Point, released: boolean, isNew: boolean, entry: Side | null}} Drag
 */
/**
 * @typedef {object} Motion
 * @property {Shape} shape
 * @property {(shapes: Shape[], time: number, seconds: number) => number | null} step
 *   advances by `seconds` to `time`; returns the time at which the motion ended, or null
 * @property {(end: number) => Action | null} describe returns what has happened, or null if it is not worth a report
 * @property {() => void} finish updates the shapes once the motion has ended
 */

/** Durations of the trained changes, in seconds. */
const TURN_SECONDS = 0.25;
const RESIZE_SECONDS = 0.4;
/** A shape follows the hand with a lag of this many seconds, between these speeds in sides of the frame per second. */
const LAG_SECONDS = 0.22;
const MIN_SPEED = 0.3;
const MAX_SPEED = 0.9;
/** Least speed of a shape that was released. It does not slow down before it arrives. */
const MIN_FINAL_SPEED = 0.45;
/** A shape that has rested this long while it is held has finished its movement. */
const REST_SECONDS = 0.15;
/** A hand slower than this aims at the shape below it; a faster one passes by. */
const AIM_SPEED = 0.35;
/** How long a hand stays outside of the frame before the shape follows it out. */
const OUTSIDE_SECONDS = 0.12;
/** A movement that makes no progress for this long ends. */
const STUCK_SECONDS = 0.4;
/** A movement is over once the shape stays this near to where it comes to rest: two pixels of what nano sees. */
const REST_DISTANCE = 0.03;
/** A shorter movement is too small to be reported. */
const MIN_REPORTED = 0.08;

/** What movements of a shape have in common: where it came from, and what has happened once it arrives. */
class Journey {
  /**
   * @param {Shape} shape
   * @param {number} start
   * @param {Side | null} entersFrom the side through which it enters
   */
  constructor(shape, start, entersFrom) {
    this.shape = shape;
    this.start = start;
    this.entersFrom = entersFrom;
    this.from = { x: shape.x, y: shape.y };
    this.cover = shape.behind;
    shape.behind = null;
    /** @type {Goal | null} */
    this.goal = null;
  }

  /**
   * Set the goal. A shape that will touch another comes to the front, one that hides goes behind all others.
   * @param {Shape[]} shapes
   * @param {Goal} goal
   */
  setGoal(shapes, goal) {
    const others = shapes.filter((other) => other !== this.shape).map((other) => other.depth);
    if (goal.kind !== this.goal?.kind && others.length > 0) {
      if (goal.kind === "touch") this.shape.depth = Math.max(...others) + 0.1;
      if (goal.kind === "hide") this.shape.depth = Math.min(...others) - 0.1;
    }
    this.goal = goal;
  }

  /** Update contacts and what is hidden, once the shape has arrived. */
  finish() {
    const { shape, goal } = this;
    for (const other of [...shape.contacts]) {
      if (distance(shape, other) < clearDistance(shape, other) - 1e-3) continue;
      shape.contacts.delete(other);
      other.contacts.delete(shape);
    }
    if (goal?.kind === "touch" && goal.other) {
      shape.contacts.add(goal.other);
      goal.other.contacts.add(shape);
    }
    if (goal?.kind === "hide") {
      shape.separate();
      shape.behind = goal.other;
    }
  }

  /**
   * Return what has happened, or null if the shape has hardly moved.
   * @param {number} end
   * @returns {Action | null}
   */
  describe(end) {
    const { shape, start, goal } = this;
    const found = this.#kindAndText();
    if (found === null) return null;
    const other = found.kind === "reveal" ? this.cover : (goal?.other ?? null);
    return { kind: found.kind, start, end, subject: shape.name, other: other?.name ?? null, text: found.text };
  }

  /** @returns {{kind: import("./playground_captions.js").ActionKind, text: string} | null} */
  #kindAndText() {
    const { shape, goal, cover, entersFrom } = this;
    if (goal?.kind === "leave" && goal.side) return { kind: "leave", text: leaveText(shape, goal.side) };
    if (entersFrom !== null) return { kind: "enter", text: enterText(shape, entersFrom) };
    if (goal?.kind === "touch" && goal.other) return { kind: "touch", text: meetText("touch", shape, goal.other) };
    if (goal?.kind === "hide" && goal.other) return { kind: "hide", text: meetText("hide", shape, goal.other) };
    if (cover !== null) return { kind: "reveal", text: meetText("reveal", shape, cover) };
    const [dx, dy] = [shape.x - this.from.x, shape.y - this.from.y];
    if (Math.hypot(dx, dy) < MIN_REPORTED) return null;
    return { kind: "move", text: moveText(shape, directionOf(dx, dy)) };
  }
}

/**
 * A straight movement at constant speed.
 * @implements {Motion}
 */
export class Glide extends Journey {
  /**
   * @param {Shape[]} shapes
   * @param {Shape} shape
   * @param {Goal} goal
   * @param {number} start
   * @param {number} duration
   * @param {Side | null} [entersFrom]
   */
  constructor(shapes, shape, goal, start, duration, entersFrom = null) {
    super(shape, start, entersFrom);
    this.duration = duration;
    this.target = goal;
    this.setGoal(shapes, goal);
  }

  /**
   * @param {Shape[]} _shapes
   * @param {number} time
   */
  step(_shapes, time) {
    const share = clamp((time - this.start) / this.duration, 0, 1);
    this.shape.x = this.from.x + share * (this.target.x - this.from.x);
    this.shape.y = this.from.y + share * (this.target.y - this.from.y);
    return share < 1 ? null : this.start + this.duration;
  }
}

/**
 * A movement after the hand, until the hand has released the shape or rests.
 * @implements {Motion}
 */
export class Following extends Journey {
  /** @type {number | null} */ #restingSince = null;
  /** @type {number | null} */ #outsideSince = null;
  #progressAt;
  #speed = 0;
  #isFinal = false;
  /** The goal, and the smallest distance from it so far. */
  #nearest = { x: Infinity, y: Infinity, away: Infinity };
  /** @type {{time: number, x: number, y: number}[]} */ #way = [];

  /**
   * @param {Drag} drag
   * @param {number} start
   * @param {Side | null} [entersFrom]
   */
  constructor(drag, start, entersFrom = null) {
    super(drag.shape, start, entersFrom);
    this.drag = drag;
    this.#progressAt = start;
  }

  /**
   * @param {Shape[]} shapes
   * @param {number} time
   * @param {number} seconds
   */
  step(shapes, time, seconds) {
    const goal = this.#updateGoal(shapes, time);
    const { shape } = this;
    const away = distance(shape, goal);
    const speed = clamp(away / LAG_SECONDS, MIN_SPEED, MAX_SPEED);
    this.#speed = this.#isFinal ? Math.max(this.#speed, speed, MIN_FINAL_SPEED) : speed;
    const length = this.#speed * seconds;
    const obstacles = obstaclesOf(shapes, shape).filter((other) => other !== goal.other);
    const next = stepTowards(obstacles, shape, goal, length);
    this.#noteProgress(time, goal, distance(next, goal));
    shape.x = next.x;
    shape.y = next.y;
    this.#way.push({ time, ...next });
    return this.#isOver(time, distance(next, goal) < 1e-9) ? this.#endOfMovement() : null;
  }

  /**
   * Note when the shape was nearer to its goal than ever before.
   * @param {number} time
   * @param {Goal} goal
   * @param {number} away
   */
  #noteProgress(time, goal, away) {
    if (distance(goal, this.#nearest) > REST_DISTANCE) this.#nearest = { x: goal.x, y: goal.y, away: Infinity };
    if (away > this.#nearest.away - 1e-4) return;
    this.#nearest.away = away;
    this.#progressAt = time;
  }

  /**
   * @param {number} time
   * @param {boolean} hasArrived
   */
  #isOver(time, hasArrived) {
    this.#restingSince = hasArrived ? (this.#restingSince ?? time) : null;
    if (this.#restingSince === null) return time - this.#progressAt > STUCK_SECONDS;
    return this.#isFinal || time - this.#restingSince >= REST_SECONDS;
  }

  #endOfMovement() {
    const last = this.#way[this.#way.length - 1];
    const moving = this.#way.filter((point) => distance(point, last) > REST_DISTANCE);
    return moving.length > 0 ? moving[moving.length - 1].time : last.time;
  }

  /**
   * @param {Shape[]} shapes
   * @param {number} time
   * @returns {Goal}
   */
  #updateGoal(shapes, time) {
    if (this.#isFinal && this.goal) return this.goal;
    const hand = handOf(this.drag, this.drag.released ? Infinity : time);
    this.#outsideSince = sideBeyond(hand) === null ? null : (this.#outsideSince ?? time);
    const { released } = this.drag;
    const isOutside = this.#outsideSince !== null && (released || time - this.#outsideSince >= OUTSIDE_SECONDS);
    const mayMeet = this.entersFrom === null && this.cover === null;
    const isAiming = released || this.drag.track.speed(time) < AIM_SPEED;
    const goal = goalAt(shapes, this.shape, hand, {
      mayTouch: mayMeet && isAiming,
      mayLeave: this.entersFrom === null && isOutside,
    });
    this.setGoal(shapes, goal);
    this.#isFinal = released || goal.kind === "leave";
    return goal;
  }
}

/**
 * Return where the hand holds the shape's centre at `time`, by default at last.
 * @param {Drag} drag
 * @param {number} [time]
 * @returns {Point}
 */
export function handOf(drag, time = Infinity) {
  const point = drag.track.at(time);
  return { x: point.x + drag.offset.x, y: point.y + drag.offset.y };
}

/**
 * A change of colour, blended.
 * @implements {Motion}
 */
export class Turn {
  /**
   * @param {Shape} shape
   * @param {Colour} colour
   * @param {number} start
   */
  constructor(shape, colour, start) {
    this.shape = shape;
    this.start = start;
    this.subject = shape.name;
    this.text = turnText(shape, colour);
    shape.nextColour = colour;
  }

  /**
   * @param {Shape[]} _shapes
   * @param {number} time
   */
  step(_shapes, time) {
    this.shape.colourShare = clamp((time - this.start) / TURN_SECONDS, 0, 1);
    if (this.shape.colourShare < 1) return null;
    this.shape.colour = this.shape.nextColour;
    this.shape.colourShare = 0;
    return this.start + TURN_SECONDS;
  }

  finish() {}

  /** @param {number} end @returns {Action} */
  describe(end) {
    return { kind: "turn", start: this.start, end, subject: this.subject, other: null, text: this.text };
  }
}

/**
 * A change of size.
 * @implements {Motion}
 */
export class Resize {
  /**
   * @param {Shape} shape
   * @param {number} start
   */
  constructor(shape, start) {
    this.shape = shape;
    this.start = start;
    /** @type {"grow" | "shrink"} */
    this.kind = shape.size === "small" ? "grow" : "shrink";
    this.from = shape.radius;
    shape.size = shape.size === "small" ? "big" : "small";
  }

  /**
   * @param {Shape[]} _shapes
   * @param {number} time
   */
  step(_shapes, time) {
    const share = clamp((time - this.start) / RESIZE_SECONDS, 0, 1);
    this.shape.radius = this.from + share * (RADII[this.shape.size] - this.from);
    return share < 1 ? null : this.start + RESIZE_SECONDS;
  }

  finish() {}

  /** @param {number} end @returns {Action} */
  describe(end) {
    const { kind, start, shape } = this;
    return { kind, start, end, subject: shape.name, other: null, text: resizeText(shape, kind) };
  }
}

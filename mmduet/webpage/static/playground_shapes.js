// @ts-check
/**
 * The shapes of the playground: those of `mmduet/scenes/world.py`, with the same sizes, colours and names.
 *
 * Coordinates and radii are fractions of the frame's side, x to the right and y downwards; times are seconds.
 */

/** @typedef {"circle" | "square" | "triangle" | "star" | "cross"} Form */
/** @typedef {"red" | "orange" | "yellow" | "green" | "blue" | "purple" | "white"} Colour */
/** @typedef {"small" | "big"} Size */
/** @typedef {"left" | "right" | "top" | "bottom"} Side */
/** @typedef {{x: number, y: number}} Point */

/** @type {Readonly<Record<Colour, readonly [number, number, number]>>} */
export const COLOURS = Object.freeze({
  red: [222, 38, 38],
  orange: [250, 140, 20],
  yellow: [240, 225, 50],
  green: [40, 185, 70],
  blue: [45, 90, 240],
  purple: [165, 60, 210],
  white: [245, 245, 245],
});
export const COLOUR_NAMES = /** @type {Colour[]} */ (Object.keys(COLOURS));
/** @type {readonly Form[]} */
export const FORMS = Object.freeze(["circle", "square", "triangle", "star", "cross"]);
/** @type {Readonly<Record<Size, number>>} */
export const RADII = Object.freeze({ small: 0.115, big: 0.19 });
/** Forms that, when big, cover a small shape completely. */
const COVERING_FORMS = new Set(["circle", "square"]);
/** Direction out of the frame through each side. @type {Readonly<Record<Side, Point>>} */
export const SIDES = Object.freeze({
  left: { x: -1, y: 0 },
  right: { x: 1, y: 0 },
  top: { x: 0, y: -1 },
  bottom: { x: 0, y: 1 },
});
export const SIDE_NAMES = /** @type {Side[]} */ (Object.keys(SIDES));

/** One shape on the canvas. */
export class Shape {
  /**
   * @param {Form} form
   * @param {Colour} colour
   * @param {Size} size
   * @param {Point} at
   * @param {number} depth a higher depth is nearer
   * @param {number} tilt radians
   */
  constructor(form, colour, size, at, depth, tilt) {
    this.form = form;
    this.colour = colour;
    this.size = size;
    this.x = at.x;
    this.y = at.y;
    this.depth = depth;
    this.tilt = tilt;
    this.radius = RADII[size];
    /** Colour that it is changing to, and how much of the change is done, from 0 to 1. */
    this.nextColour = colour;
    this.colourShare = 0;
    /** Shape that hides it completely. @type {Shape | null} */
    this.behind = null;
    /** Shapes in contact with it. @type {Set<Shape>} */
    this.contacts = new Set();
  }

  /** Name in captions: colour and form. */
  get name() {
    return `${this.colour} ${this.form}`;
  }

  /** Whether it can hide a small shape. */
  get canCover() {
    return this.size === "big" && COVERING_FORMS.has(this.form);
  }

  /** End all contacts. */
  separate() {
    for (const other of this.contacts) other.contacts.delete(this);
    this.contacts.clear();
  }
}

/**
 * Return the distance between two points.
 * @param {Point} a
 * @param {Point} b
 */
export function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

/**
 * Return the distance from a point to the line segment from `a` to `b`.
 * @param {Point} point
 * @param {Point} a
 * @param {Point} b
 */
export function distanceToSegment(point, a, b) {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  const share = length === 0 ? 0 : clamp(((point.x - a.x) * dx + (point.y - a.y) * dy) / length, 0, 1);
  return Math.hypot(point.x - a.x - share * dx, point.y - a.y - share * dy);
}

/**
 * Return `value` limited to the range from `low` to `high`.
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

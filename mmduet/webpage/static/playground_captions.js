// @ts-check
/** The captions of actions, in the words of `mmduet/scenes/scene_generator.py`, which nano was trained on. */

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Side} Side */
/** @typedef {"enter" | "leave" | "move" | "turn" | "grow" | "shrink" | "touch" | "hide" | "reveal"} ActionKind */
/** @typedef {"left" | "right" | "up" | "down"} Direction */
/**
 * Something that happened on the canvas. Times are seconds on the clock of the world; `text` is the caption, and `subject` and
 * `other` are names of shapes.
 * @typedef {object} Action
 * @property {ActionKind} kind
 * @property {number} start
 * @property {number} end
 * @property {string} subject
 * @property {string | null} other
 * @property {string} text
 */

/**
 * Return the text of a shape that enters.
 * @param {Shape} shape
 * @param {Side} side
 */
export const enterText = (shape, side) => `a ${shape.size} ${shape.name} enters from the ${side}`;

/**
 * Return the text of a shape that leaves.
 * @param {Shape} shape
 * @param {Side} side
 */
export function leaveText(shape, side) {
  return `the ${shape.name} leaves ${side === "left" || side === "right" ? "on" : "at"} the ${side}`;
}

/**
 * Return the direction of a movement: that of its longer component.
 * @param {number} dx
 * @param {number} dy
 * @returns {Direction}
 */
export function directionOf(dx, dy) {
  if (Math.abs(dx) >= Math.abs(dy)) return dx < 0 ? "left" : "right";
  return dy < 0 ? "up" : "down";
}

/**
 * Return the text of a shape that moves.
 * @param {Shape} shape
 * @param {Direction} direction
 */
export const moveText = (shape, direction) => `the ${shape.name} moves ${direction}`;

/**
 * Return the text of a shape that meets another one.
 * @param {"touch" | "hide" | "reveal"} kind
 * @param {Shape} shape
 * @param {Shape} other
 */
export function meetText(kind, shape, other) {
  const verb = { touch: "touches", hide: "hides behind", reveal: "comes out from behind" }[kind];
  return `the ${shape.name} ${verb} the ${other.name}`;
}

/**
 * Return the text of a shape that changes its colour.
 * @param {Shape} shape before the change
 * @param {string} colour
 */
export const turnText = (shape, colour) => `the ${shape.name} turns ${colour}`;

/**
 * Return the text of a shape that changes its size.
 * @param {Shape} shape
 * @param {"grow" | "shrink"} kind
 */
export const resizeText = (shape, kind) => `the ${shape.name} ${kind}s`;

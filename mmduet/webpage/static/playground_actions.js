// @ts-check
/**
 * Commands of the tools and the keyboard. `plan` turns a command into a motion, or explains why it is not possible now.
 */

import { Following, Glide, Resize, Turn, handOf } from "./playground_motion.js";
import {
  CLEARANCE,
  TOUCH_REACH,
  besideFrame,
  canHide,
  clearDistance,
  goalAt,
  hideGoal,
  insideFrame,
  isClear,
  isPathClear,
  leaveGoal,
  obstaclesOf,
  restGoal,
  touchGoal,
} from "./playground_rules.js";
import {
  COLOUR_NAMES,
  FORMS,
  RADII,
  SIDES,
  SIDE_NAMES,
  Shape,
  clamp,
  distance,
} from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Colour} Colour */
/** @typedef {import("./playground_shapes.js").Form} Form */
/** @typedef {import("./playground_shapes.js").Point} Point */
/** @typedef {import("./playground_shapes.js").Side} Side */
/** @typedef {import("./playground_shapes.js").Size} Size */
/** @typedef {import("./playground_rules.js").Goal} Goal */
/** @typedef {import("./playground_motion.js").Drag} Drag */
/** @typedef {import("./playground_motion.js").Motion} Motion */
/** @typedef {import("./playground_captions.js").Direction} Direction */
/** @typedef {{form: Form, colour: Colour, size: Size}} Look */
/**
 * @typedef {{type: "add", look?: Partial<Look>, side?: Side}
 *   | {type: "move", shape: Shape, direction: Direction}
 *   | {type: "leave", shape: Shape, side?: Side}
 *   | {type: "turn", shape: Shape, colour?: Colour}
 *   | {type: "grow" | "shrink" | "touch" | "hide" | "reveal", shape: Shape}
 *   | {type: "drop", shape: Shape, drag: Drag}} Command
 */
/** @typedef {() => number} Random */
/** @typedef {(time: number) => Motion} Start starts a motion at a time */

/** More shapes than nano was trained on at a time. */
export const MAX_SHAPES = 3;
/** Length of a movement by the keyboard, and the shortest one, in sides of the frame. */
const MOVE_LENGTH = 0.32;
const MIN_MOVE_LENGTH = 0.2;
/** A shape must come from at least this far to touch another one. */
const MIN_APPROACH = 0.12;
const MAX_LENGTH = 0.9;
const SPEED = 0.5;
const DURATIONS = Object.freeze({ min: 0.6, max: 1.1 });
const TRIES = 60;
const NO_ROOM = "There is not enough room for it. Move or remove a shape first.";
/** @type {Readonly<Record<Direction, Side>>} */
const SIDE_OF = Object.freeze({ left: "left", right: "right", up: "top", down: "bottom" });

/** Reason for which a command is not possible. */
export class Refusal {
  /** @param {string} text a complete sentence for the visitor */
  constructor(text) {
    this.text = text;
  }
}

/**
 * Return how to start a command, or the reason why it is not possible. Planning changes nothing.
 * @param {Shape[]} shapes
 * @param {Command} command
 * @param {Random} random
 * @returns {Start | Refusal}
 */
export function plan(shapes, command, random) {
  if (command.type === "add") return planAdd(shapes, command.look ?? {}, command.side, random);
  const { shape } = command;
  if (command.type === "drop" && command.drag.isNew) return planEntry(shapes, command.drag);
  if (!shapes.includes(shape)) return new Refusal("This shape is not on the canvas any more.");
  if (shape.behind && command.type !== "reveal" && command.type !== "drop") {
    return new Refusal(`The ${shape.name} is hidden. Bring it out first.`);
  }
  switch (command.type) {
    case "move":
      return planMove(shapes, shape, command.direction);
    case "leave":
      return planLeave(shapes, shape, command.side);
    case "turn":
      return planTurn(shapes, shape, command.colour, random);
    case "touch":
      return planTouch(shapes, shape);
    case "hide":
      return planHide(shapes, shape);
    case "reveal":
      return planReveal(shapes, shape, random);
    case "drop":
      return planDrop(shapes, command.drag);
    default:
      return planResize(shapes, shape, command.type);
  }
}

/**
 * Return a colour and form that no shape has, with the requested ones where they are free.
 * @param {Shape[]} shapes
 * @param {Partial<Look>} requested
 * @param {Random} random
 * @returns {Look | null}
 */
export function freeLook(shapes, requested, random) {
  const size = requested.size ?? (random() < 0.5 ? "small" : "big");
  const free = [];
  for (const colour of requested.colour ? [requested.colour] : COLOUR_NAMES) {
    for (const form of requested.form ? [requested.form] : FORMS) {
      if (isFree(shapes, colour, form)) free.push({ form, colour, size });
    }
  }
  return free.length > 0 ? free[Math.floor(random() * free.length)] : null;
}

/**
 * Return whether no shape has this colour and form.
 * @param {Shape[]} shapes
 * @param {Colour} colour
 * @param {Form} form
 */
export function isFree(shapes, colour, form) {
  return shapes.every((shape) => shape.colour !== colour || shape.form !== form);
}

/**
 * Return a new shape outside of `shapes`, at a point, or the reason why none can be added.
 * @param {Shape[]} shapes
 * @param {Partial<Look>} requested
 * @param {Point} at
 * @param {Random} random
 * @returns {Shape | Refusal}
 */
export function newShape(shapes, requested, at, random) {
  if (shapes.length >= MAX_SHAPES) {
    return new Refusal(`The canvas holds ${MAX_SHAPES} shapes, as in the model's training. Remove one first.`);
  }
  const look = freeLook(shapes, requested, random);
  if (look === null) return new Refusal(`A ${requested.colour} ${requested.form} is on the canvas already. Choose another.`);
  return new Shape(look.form, look.colour, look.size, at, random(), (random() - 0.5) * 0.2);
}

/**
 * @param {Shape[]} shapes
 * @param {Partial<Look>} requested
 * @param {Side | undefined} side
 * @param {Random} random
 */
function planAdd(shapes, requested, side, random) {
  const shape = newShape(shapes, requested, { x: 0.5, y: 0.5 }, random);
  if (shape instanceof Refusal) return shape;
  const obstacles = obstaclesOf(shapes, shape);
  for (let round = 0; round < TRIES; round += 1) {
    const end = randomPoint(shape.radius, random);
    const from = side ?? SIDE_NAMES[Math.floor(random() * SIDE_NAMES.length)];
    const begin = besideFrame(end, from, shape.radius);
    if (distance(begin, end) > MAX_LENGTH || !isPathClear(obstacles, shape, begin, end)) continue;
    return (/** @type {number} */ start) => {
      [shape.x, shape.y] = [begin.x, begin.y];
      return glide(shapes, shape, restAt(end), from)(start);
    };
  }
  return new Refusal(NO_ROOM);
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Direction} direction
 */
function planMove(shapes, shape, direction) {
  const obstacles = obstaclesOf(shapes, shape);
  const { x: dx, y: dy } = SIDES[SIDE_OF[direction]];
  const ahead = obstacles.find((other) => isAhead(shape, other, dx, dy));
  if (ahead) return glide(shapes, shape, touchGoal(shape, ahead));
  const end = insideFrame({ x: shape.x + dx * MOVE_LENGTH, y: shape.y + dy * MOVE_LENGTH }, shape.radius);
  const straight = { x: dx ? end.x : shape.x, y: dy ? end.y : shape.y };
  if (distance(shape, straight) < MIN_MOVE_LENGTH) {
    return new Refusal(`The ${shape.name} is near the edge. With Shift it leaves the canvas on this side.`);
  }
  if (!isPathClear(obstacles, shape, shape, straight)) return new Refusal("Another shape is in the way.");
  return glide(shapes, shape, restAt(straight));
}

/**
 * Return whether a shape that moves in a direction runs into another one.
 * @param {Shape} shape
 * @param {Shape} other
 * @param {number} dx
 * @param {number} dy
 */
function isAhead(shape, other, dx, dy) {
  if (shape.contacts.has(other)) return false;
  const along = (other.x - shape.x) * dx + (other.y - shape.y) * dy;
  const across = Math.abs((other.x - shape.x) * dy) + Math.abs((other.y - shape.y) * dx);
  const reach = shape.radius + other.radius;
  return along > 0 && across < 0.6 * reach && along < MOVE_LENGTH + reach && along > TOUCH_REACH * reach + MIN_APPROACH;
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Side | undefined} requested
 */
function planLeave(shapes, shape, requested) {
  const obstacles = obstaclesOf(shapes, shape);
  const goals = (requested ? [requested] : SIDE_NAMES).map((side) => leaveGoal(shape, side));
  goals.sort((a, b) => distance(shape, a) - distance(shape, b));
  const goal = goals.find((g) => distance(shape, g) < MAX_LENGTH && isPathClear(obstacles, shape, shape, g));
  return goal ? glide(shapes, shape, goal) : new Refusal("The way out is not clear. Move it or another shape first.");
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Colour | undefined} requested
 * @param {Random} random
 */
function planTurn(shapes, shape, requested, random) {
  const free = COLOUR_NAMES.filter((colour) => isFree(shapes, colour, shape.form));
  const colour = requested ?? free[Math.floor(random() * free.length)];
  if (colour === shape.colour) return new Refusal(`The ${shape.name} is ${colour} already.`);
  if (!free.includes(colour)) return new Refusal(`Another ${shape.form} is ${colour} already. Choose another colour.`);
  return (/** @type {number} */ start) => new Turn(shape, colour, start);
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 */
function planTouch(shapes, shape) {
  const others = obstaclesOf(shapes, shape).filter((other) => !shape.contacts.has(other));
  others.sort((a, b) => distance(shape, a) - distance(shape, b));
  for (const other of others) {
    const rest = obstaclesOf(shapes, shape).filter((third) => third !== other);
    const goal = touchGoal(shape, other);
    if (distance(shape, goal) >= MIN_APPROACH && isPathClear(rest, shape, shape, goal)) return glide(shapes, shape, goal);
  }
  return new Refusal("No other shape can be touched from here. Add one, or move further away first.");
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 */
function planHide(shapes, shape) {
  const covers = obstaclesOf(shapes, shape).filter((other) => canHide(shapes, shape, other));
  const cover = covers.find((other) => {
    const rest = obstaclesOf(shapes, shape).filter((third) => third !== other);
    return isPathClear(rest, shape, shape, other);
  });
  if (cover) return glide(shapes, shape, hideGoal(cover));
  return new Refusal("Only a small shape can hide, behind a big circle or square that it can reach.");
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Random} random
 */
function planReveal(shapes, shape, random) {
  const hidden = shape.behind ? shape : shapes.find((other) => other.behind === shape);
  if (!hidden) return new Refusal(`Nothing hides behind the ${shape.name}.`);
  const obstacles = obstaclesOf(shapes, hidden);
  for (let round = 0; round < TRIES; round += 1) {
    const end = randomPoint(hidden.radius, random);
    const others = shapes.filter((other) => other !== hidden);
    if (isClear(others, hidden, end) && isPathClear(obstacles, hidden, hidden, end)) {
      return glide(shapes, hidden, restAt(end));
    }
  }
  return new Refusal("There is not enough room beside it. Move or remove a shape first.");
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {"grow" | "shrink"} kind
 */
function planResize(shapes, shape, kind) {
  const size = kind === "grow" ? "big" : "small";
  if (shape.size === size) return new Refusal(`The ${shape.name} is ${size} already.`);
  if (shape.contacts.size > 0) return new Refusal("It touches another shape. Move it away first.");
  if (shapes.some((other) => other.behind === shape)) return new Refusal("Something hides behind it. Bring that out first.");
  const radius = RADII[size];
  const hasRoom = obstaclesOf(shapes, shape).every((other) => distance(shape, other) > radius + other.radius + CLEARANCE);
  const low = radius - 0.03;
  const isInside = [shape.x, shape.y].every((value) => value > low && value < 1 - low);
  if (!hasRoom || !isInside) return new Refusal("There is not enough room to grow. Move it first.");
  return (/** @type {number} */ start) => new Resize(shape, start);
}

/**
 * A new shape that was released: it enters from the side that the hand came from, or from the nearest one that is free.
 * @param {Shape[]} shapes
 * @param {Drag} drag
 * @returns {Start | Refusal}
 */
function planEntry(shapes, drag) {
  const { shape } = drag;
  const goal = restGoal(shapes, shape, handOf(drag));
  const obstacles = obstaclesOf(shapes, shape);
  const beginAt = (/** @type {Side} */ side) => besideFrame(goal, side, shape.radius);
  const sides = [...SIDE_NAMES].sort((a, b) => distance(beginAt(a), goal) - distance(beginAt(b), goal));
  const side = [drag.entry ?? sides[0], ...sides].find((s) => isPathClear(obstacles, shape, beginAt(s), goal));
  const isFreeHere = isFree(shapes, shape.colour, shape.form) && shapes.length < MAX_SHAPES;
  if (side === undefined || !isFreeHere || !isClear(obstacles, shape, goal)) return new Refusal(NO_ROOM);
  return (/** @type {number} */ start) => {
    const begin = beginAt(side);
    [shape.x, shape.y] = [begin.x, begin.y];
    return glide(shapes, shape, goal, side)(start);
  };
}

/**
 * A shape that was released: a straight glide if the way is clear, otherwise around other shapes.
 * @param {Shape[]} shapes
 * @param {Drag} drag
 */
function planDrop(shapes, drag) {
  const { shape } = drag;
  const hand = handOf(drag);
  const mayTouch = shape.behind === null;
  const goal = goalAt(shapes, shape, hand, { mayTouch, mayLeave: true });
  const obstacles = obstaclesOf(shapes, shape).filter((other) => other !== goal.other);
  if (isPathClear(obstacles, shape, shape, goal)) return glide(shapes, shape, goal);
  return (/** @type {number} */ start) => new Following({ ...drag, released: true }, start);
}

/**
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Goal} goal
 * @param {Side | null} [entersFrom]
 * @returns {Start}
 */
function glide(shapes, shape, goal, entersFrom = null) {
  const duration = clamp(distance(shape, goal) / SPEED, DURATIONS.min, DURATIONS.max);
  return (/** @type {number} */ start) => new Glide(shapes, shape, goal, start, duration, entersFrom);
}

/**
 * @param {Point} point
 * @returns {Goal}
 */
function restAt({ x, y }) {
  return { kind: "rest", x, y, other: null, side: null };
}

/**
 * @param {number} radius
 * @param {Random} random
 * @returns {Point}
 */
function randomPoint(radius, random) {
  const low = radius + 0.01;
  return { x: low + random() * (1 - 2 * low), y: low + random() * (1 - 2 * low) };
}

// @ts-check
/**
 * Where shapes may go. nano was trained on scenes in which shapes keep a distance unless they touch or hide, and rest inside the
 * frame. These rules turn any position of a hand into a goal that satisfies this.
 */

import { SIDES, SIDE_NAMES, clamp, distance, distanceToSegment } from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Point} Point */
/** @typedef {import("./playground_shapes.js").Side} Side */
/**
 * Where a shape is going, and what it will have done once it is there.
 * @typedef {object} Goal
 * @property {"rest" | "touch" | "hide" | "leave"} kind
 * @property {number} x
 * @property {number} y
 * @property {Shape | null} other the shape that it touches or hides behind
 * @property {Side | null} side the side through which it leaves
 */

/** Distance between shapes that do not touch. */
export const CLEARANCE = 0.02;
/** Centres of touching shapes are this share of the sum of their radii apart, which is a visible overlap. */
export const TOUCH_REACH = 0.8;
/** Distance between the frame's edge and a shape at rest. */
const EDGE = 0.01;
/** A shape is aimed at if the hand is nearer to its centre than this share of the sum of radii. */
const AIM_REACH = 0.95;
/** A small shape hides if it is dropped nearer to the centre of a covering shape than this share of its radius. */
const HIDE_REACH = 0.75;

/**
 * Return the distance between centres at which two shapes are clear of each other.
 * @param {Shape} a
 * @param {Shape} b
 */
export function clearDistance(a, b) {
  return a.radius + b.radius + CLEARANCE;
}

/**
 * Return the nearest point at which a shape is completely inside the frame.
 * @param {Point} point
 * @param {number} radius
 * @returns {Point}
 */
export function insideFrame(point, radius) {
  const low = radius + EDGE;
  return { x: clamp(point.x, low, 1 - low), y: clamp(point.y, low, 1 - low) };
}

/**
 * Return the side of the frame beyond which a point is, or null for a point in the frame.
 * @param {Point} point
 * @returns {Side | null}
 */
export function sideBeyond(point) {
  let found = null;
  let most = 0;
  for (const side of SIDE_NAMES) {
    const beyond = (point.x - 0.5) * SIDES[side].x + (point.y - 0.5) * SIDES[side].y - 0.5;
    if (beyond > most) [found, most] = [side, beyond];
  }
  return found;
}

/**
 * Return the point beside the frame, perpendicular to a side, from which a shape enters or to which it leaves.
 * @param {Point} point a point inside the frame
 * @param {Side} side
 * @param {number} beyond distance of the centre from the edge
 * @returns {Point}
 */
export function besideFrame(point, side, beyond) {
  const { x, y } = SIDES[side];
  return { x: x ? 0.5 + x * (0.5 + beyond) : point.x, y: y ? 0.5 + y * (0.5 + beyond) : point.y };
}

/**
 * Return the shapes that a shape must keep a distance from: all but itself, what it hides and what hides it.
 * @param {Shape[]} shapes
 * @param {Shape} shape
 */
export function obstaclesOf(shapes, shape) {
  return shapes.filter((other) => other !== shape && other.behind === null && shape.behind !== other);
}

/**
 * Return whether a shape is clear of all others and inside the frame at a point.
 * @param {Shape[]} obstacles
 * @param {Shape} shape
 * @param {Point} point
 */
export function isClear(obstacles, shape, point) {
  const inside = insideFrame(point, shape.radius);
  const fits = distance(inside, point) < 1e-6;
  return fits && obstacles.every((other) => distance(point, other) >= clearDistance(shape, other) - 1e-6);
}

/**
 * Return whether a shape can go straight to a point without coming near any of the obstacles.
 *
 * It may start in contact with some of them if it moves away.
 * @param {Shape[]} obstacles
 * @param {Shape} shape
 * @param {Point} from
 * @param {Point} to
 */
export function isPathClear(obstacles, shape, from, to) {
  return obstacles.every((other) => {
    if (shape.contacts.has(other)) {
      const away = (to.x - from.x) * (from.x - other.x) + (to.y - from.y) * (from.y - other.y) > 0;
      return away && distance(to, other) >= clearDistance(shape, other);
    }
    return distanceToSegment(other, from, to) >= clearDistance(shape, other);
  });
}

/**
 * Return the goal of a shape that a hand holds at `hand`.
 * @param {Shape[]} shapes all shapes on the canvas
 * @param {Shape} shape
 * @param {Point} hand
 * @param {{mayTouch: boolean, mayLeave: boolean}} options `mayTouch` is false while the hand passes over other shapes
 * @returns {Goal}
 */
export function goalAt(shapes, shape, hand, { mayTouch, mayLeave }) {
  const side = mayLeave ? sideBeyond(hand) : null;
  if (side !== null) return leaveGoal(shape, side);
  const obstacles = obstaclesOf(shapes, shape);
  if (mayTouch && shape.behind === null) {
    const aimed = obstacles.find((other) => distance(hand, other) < AIM_REACH * (shape.radius + other.radius));
    const goal = aimed ? contactGoal(shapes, shape, aimed, hand) : null;
    if (goal) return goal;
  }
  return restGoal(shapes, shape, hand);
}

/**
 * Return the goal of leaving through a side.
 * @param {Shape} shape
 * @param {Side} side
 * @returns {Goal}
 */
export function leaveGoal(shape, side) {
  return { kind: "leave", ...besideFrame(shape, side, 0.02 + shape.radius), other: null, side };
}

/**
 * Return the goal of touching another shape or hiding behind it, or null if it is in contact already.
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Shape} other
 * @param {Point} hand
 * @returns {Goal | null}
 */
function contactGoal(shapes, shape, other, hand) {
  if (canHide(shapes, shape, other) && distance(hand, other) < HIDE_REACH * other.radius) return hideGoal(other);
  return shape.contacts.has(other) ? null : touchGoal(shape, other);
}

/**
 * Return whether a shape can hide behind another one.
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Shape} other
 */
export function canHide(shapes, shape, other) {
  return shape.size === "small" && other.canCover && shapes.every((third) => third.behind !== other);
}

/**
 * Return the goal of hiding behind a shape.
 * @param {Shape} other
 * @returns {Goal}
 */
export function hideGoal(other) {
  return { kind: "hide", x: other.x, y: other.y, other, side: null };
}

/**
 * Return the goal of touching a shape on a straight way.
 * @param {Shape} shape
 * @param {Shape} other
 * @returns {Goal}
 */
export function touchGoal(shape, other) {
  const away = distance(shape, other) || 1;
  const reach = TOUCH_REACH * (shape.radius + other.radius);
  const x = other.x + ((shape.x - other.x) * reach) / away;
  const y = other.y + ((shape.y - other.y) * reach) / away;
  return { kind: "touch", x, y, other, side: null };
}

/**
 * Return the goal of resting at the free point nearest to `hand`, or where the shape is if none is found.
 * @param {Shape[]} shapes
 * @param {Shape} shape
 * @param {Point} hand
 * @returns {Goal}
 */
export function restGoal(shapes, shape, hand) {
  const obstacles = shapes.filter((other) => other !== shape && other.behind === null);
  let point = insideFrame(hand, shape.radius);
  for (let round = 0; round < 8 && !isClear(obstacles, shape, point); round += 1) {
    for (const other of obstacles) point = insideFrame(pushedOut(point, shape, other), shape.radius);
  }
  const { x, y } = isClear(obstacles, shape, point) ? point : shape;
  return { kind: "rest", x, y, other: null, side: null };
}

/**
 * Return the point nearest to `point` at which a shape is clear of another one.
 * @param {Point} point
 * @param {Shape} shape
 * @param {Shape} other
 * @returns {Point}
 */
function pushedOut(point, shape, other) {
  const needed = clearDistance(shape, other);
  const away = distance(point, other);
  if (away >= needed) return point;
  const from = away > 1e-6 ? point : away > 1e-9 ? shape : { x: other.x + 1, y: other.y };
  const length = distance(from, other) || 1;
  const scale = (needed + 1e-6) / length;
  return { x: other.x + (from.x - other.x) * scale, y: other.y + (from.y - other.y) * scale };
}

/**
 * Return where a shape gets from its position by one step towards a goal, around obstacles.
 * @param {Shape[]} obstacles
 * @param {Shape} shape
 * @param {Point} goal
 * @param {number} length of the step
 * @returns {Point}
 */
export function stepTowards(obstacles, shape, goal, length) {
  const away = distance(shape, goal);
  if (away === 0) return { x: goal.x, y: goal.y };
  const share = Math.min(1, length / away);
  let next = { x: shape.x + (goal.x - shape.x) * share, y: shape.y + (goal.y - shape.y) * share };
  for (const other of obstacles) next = aroundObstacle(shape, other, next, length);
  return next;
}

/**
 * Return `next`, or a point of the circle around the obstacle if `next` is nearer to it than allowed.
 *
 * A shape that is already nearer than allowed, such as one in contact, must not come closer still.
 * @param {Shape} shape
 * @param {Shape} other
 * @param {Point} next
 * @param {number} length
 * @returns {Point}
 */
function aroundObstacle(shape, other, next, length) {
  const allowed = Math.min(clearDistance(shape, other), distance(shape, other));
  if (distance(next, other) >= allowed) return next;
  const from = Math.atan2(shape.y - other.y, shape.x - other.x);
  const turn = Math.atan2(next.y - other.y, next.x - other.x) - from;
  const direction = Math.sin(turn) < 0 ? -1 : 1;
  const angle = from + (direction * length) / Math.max(allowed, 1e-6);
  return { x: other.x + Math.cos(angle) * allowed, y: other.y + Math.sin(angle) * allowed };
}

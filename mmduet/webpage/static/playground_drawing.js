// @ts-check
/**
 * Drawing of the playground. The stage is what is streamed, and drawn as by `mmduet/scenes/render.py`. The overlay shows the
 * selection and what the hand holds; it is not streamed.
 */

import { COLOURS } from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Form} Form */
/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Point} Point */

/** Outlines for a radius of 1 around the origin, as SVG path data. @type {Readonly<Record<Form, string>>} */
export const OUTLINES = Object.freeze({
  circle: "M0.95,0A0.95,0.95,0,1,1,-0.95,0A0.95,0.95,0,1,1,0.95,0Z",
  square: "M-0.82,-0.82H0.82V0.82H-0.82Z",
  triangle: "M0,-1.07L0.97,0.61H-0.97Z",
  star: starOutline(1.1, 0.46),
  cross: "M-0.32,-0.98H0.32V-0.32H0.98V0.32H0.32V0.98H-0.32V0.32H-0.98V-0.32H-0.32Z",
});
/**
 * The canvas colours, from top to bottom. nano was trained on muted backgrounds between dark and medium grey; on a light one it
 * fails, because white is one of the colours of its shapes.
 */
const BACKGROUND = Object.freeze(["rgb(46, 51, 62)", "rgb(58, 64, 78)"]);
const LINE = "rgba(255, 255, 255, 0.9)";
const LINE_SHADOW = "rgba(0, 0, 0, 0.6)";
/** Radius of the mark of a hidden shape, in sides of the frame. */
export const HIDDEN_MARK_RADIUS = 0.075;
const FULL_TURN = 2 * Math.PI;

/**
 * @param {number} outer
 * @param {number} inner
 */
function starOutline(outer, inner) {
  const points = Array.from({ length: 10 }, (_, i) => {
    const radius = i % 2 === 0 ? outer : inner;
    const angle = (i * Math.PI) / 5;
    return `${(radius * Math.sin(angle)).toFixed(4)},${(-radius * Math.cos(angle)).toFixed(4)}`;
  });
  return `M${points.join("L")}Z`;
}

/**
 * Return the colour of a shape as CSS, also during a change of colour.
 * @param {Shape} shape
 */
export function cssColour(shape) {
  const [from, to] = [COLOURS[shape.colour], COLOURS[shape.nextColour]];
  return `rgb(${from.map((level, i) => Math.round(level + shape.colourShare * (to[i] - level))).join(", ")})`;
}

/**
 * Draw what is streamed.
 * @param {CanvasRenderingContext2D} context of a square canvas
 * @param {readonly Shape[]} shapes
 */
export function drawStage(context, shapes) {
  const side = context.canvas.width;
  const gradient = context.createLinearGradient(0, 0, 0, side);
  BACKGROUND.forEach((colour, i) => gradient.addColorStop(i, colour));
  context.fillStyle = gradient;
  context.fillRect(0, 0, side, side);
  for (const shape of [...shapes].sort((a, b) => a.depth - b.depth)) {
    context.fillStyle = cssColour(shape);
    context.fill(outlineAt(shape, shape, side));
  }
}

/**
 * Draw the selection, the marks of hidden shapes, and the line from a held shape to where the hand holds it.
 * @param {CanvasRenderingContext2D} context of a square canvas
 * @param {readonly Shape[]} shapes
 * @param {Shape | null} selected
 * @param {{shape: Shape, hand: Point, isNew: boolean} | null} held
 */
export function drawOverlay(context, shapes, selected, held) {
  const side = context.canvas.width;
  context.clearRect(0, 0, side, side);
  for (const shape of shapes) {
    if (shape.behind) strokeTwice(context, circleAt(shape, HIDDEN_MARK_RADIUS * side, side), [side / 64, side / 80]);
  }
  if (selected && shapes.includes(selected) && !selected.behind) {
    strokeTwice(context, circleAt(selected, (selected.radius * 1.12 + 0.01) * side, side), []);
  }
  if (held) {
    strokeTwice(context, outlineAt(held.shape, held.hand, side), [side / 50, side / 70]);
    if (!held.isNew) strokeTwice(context, lineBetween(held.shape, held.hand, side), [side / 128, side / 64]);
  }
}

/**
 * @param {Shape} shape
 * @param {Point} at
 * @param {number} side
 */
function outlineAt(shape, at, side) {
  const path = new Path2D();
  const matrix = new DOMMatrix().translateSelf(at.x * side, at.y * side);
  const scale = shape.radius * side;
  path.addPath(new Path2D(OUTLINES[shape.form]), matrix.rotateSelf((shape.tilt * 180) / Math.PI).scaleSelf(scale, scale));
  return path;
}

/**
 * @param {Point} centre
 * @param {number} radius
 * @param {number} side
 */
function circleAt(centre, radius, side) {
  const path = new Path2D();
  path.arc(centre.x * side, centre.y * side, radius, 0, FULL_TURN);
  return path;
}

/**
 * @param {Point} from
 * @param {Point} to
 * @param {number} side
 */
function lineBetween(from, to, side) {
  const path = new Path2D();
  path.moveTo(from.x * side, from.y * side);
  path.lineTo(to.x * side, to.y * side);
  return path;
}

/**
 * Stroke a path in white on a dark shadow, visible on every colour.
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} path
 * @param {number[]} dashes
 */
function strokeTwice(context, path, dashes) {
  const width = context.canvas.width / 160;
  context.setLineDash(dashes);
  for (const [colour, factor] of /** @type {[string, number][]} */ ([[LINE_SHADOW, 2], [LINE, 1]])) {
    context.strokeStyle = colour;
    context.lineWidth = width * factor;
    context.stroke(path);
  }
}

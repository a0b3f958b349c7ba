// @ts-check
/** What a visitor may try next on the playground, and queries that nano understands about it. */

import { canHide } from "./playground_rules.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_captions.js").ActionKind} ActionKind */

/**
 * Hints in the order in which they are shown: each until the visitor has done it, and only while it is possible.
 * @type {readonly {kinds: readonly ActionKind[], isPossible: (shapes: Shape[]) => boolean, text: string}[]}
 */
const HINTS = Object.freeze([
  { kinds: ["move"], isPossible: (shapes) => shapes.length > 0, text: "Drag a shape to another place." },
  { kinds: ["enter"], isPossible: () => true, text: "Drag a new shape into the frame, or tap it." },
  { kinds: ["touch"], isPossible: hasPair, text: "Drag one shape against another." },
  { kinds: ["reveal"], isPossible: hasHidden, text: "Drag the dashed circle to bring the hidden shape out." },
  { kinds: ["hide"], isPossible: hasHidingPlace, text: "Drop a small shape on the middle of a big circle or square." },
  { kinds: ["turn", "grow", "shrink"], isPossible: (shapes) => shapes.length > 0, text: "Change a shape's colour or size." },
  { kinds: ["leave"], isPossible: (shapes) => shapes.length > 0, text: "Drag a shape out of the frame." },
]);

/** @param {Shape[]} shapes */
function hasPair(shapes) {
  return shapes.filter((shape) => shape.behind === null).length > 1;
}

/** @param {Shape[]} shapes */
function hasHidden(shapes) {
  return shapes.some((shape) => shape.behind !== null);
}

/** @param {Shape[]} shapes */
function hasHidingPlace(shapes) {
  return shapes.some((shape) => shape.behind === null && shapes.some((other) => other !== shape && canHide(shapes, shape, other)));
}

/**
 * Return the next hint, or an empty text once everything has been tried.
 * @param {Shape[]} shapes
 * @param {ReadonlySet<ActionKind>} done kinds of action that the visitor has done
 */
export function nextHint(shapes, done) {
  const hint = HINTS.find(({ kinds, isPossible }) => !kinds.some((kind) => done.has(kind)) && isPossible(shapes));
  return hint?.text ?? "";
}

/**
 * Return queries about these shapes in the words that nano was trained on (`mmduet/scenes/prompts.py`).
 * @param {readonly Shape[]} shapes
 */
export function exampleQueries(shapes) {
  const names = shapes.map((shape) => shape.name);
  return [
    "Narrate the scene.",
    "Tell me when something touches something.",
    "Tell me when something enters.",
    "Let me know whenever something changes colour.",
    ...names.map((name) => `What does the ${name} do?`),
    "What do you see?",
  ];
}

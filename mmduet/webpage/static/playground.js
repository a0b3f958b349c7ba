// @ts-check
/**
 * `<mmduet-playground>`: a canvas of shapes that a visitor moves and changes, in the world that the model nano was trained on.
 *
 * The property `canvas` is what to stream. The element emits `action` for everything that has happened, with the caption that
 * nano should give it; times are seconds on the clock of `performance.now()`.
 */

import { drawOverlay, drawStage } from "./playground_drawing.js";
import { Hands } from "./playground_hands.js";
import { exampleQueries, nextHint } from "./playground_hints.js";
import { STYLE } from "./playground_style.js";
import { handOf } from "./playground_motion.js";
import { Tools, element } from "./playground_tools.js";
import { World } from "./playground_world.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Form} Form */
/** @typedef {import("./playground_shapes.js").Side} Side */
/** @typedef {import("./playground_actions.js").Command} Command */
/** @typedef {import("./playground_captions.js").Action} Action */
/** @typedef {import("./playground_captions.js").ActionKind} ActionKind */
/** @typedef {import("./playground_captions.js").Direction} Direction */
/** @typedef {import("./playground_tools.js").Tool} Tool */

/** Side of the canvases, in pixels. */
const CANVAS_SIDE = 512;
/** @type {Readonly<Record<string, [Direction, Side]>>} */
const ARROWS = Object.freeze({
  ArrowLeft: ["left", "left"],
  ArrowRight: ["right", "right"],
  ArrowUp: ["up", "top"],
  ArrowDown: ["down", "bottom"],
});
/** @type {Readonly<Record<string, Exclude<Tool, "clear" | "turn">>>} */
const TOOL_KEYS = Object.freeze({
  "+": "grow", "=": "grow", "-": "shrink", t: "touch", h: "hide", b: "reveal", delete: "leave", backspace: "leave",
});
/** @type {import("./playground_world.js").Placed[]} */
const FIRST_SHAPES = [
  { form: "square", colour: "red", size: "big", x: 0.3, y: 0.42 },
  { form: "circle", colour: "blue", size: "small", x: 0.72, y: 0.62 },
];
const STAGE_LABEL = "Canvas with shapes that you can move and change while the model watches";

const now = () => performance.now() / 1000;

/** The playground. */
export class Playground extends HTMLElement {
  static observedAttributes = ["hidden"];
  /** What to stream: the shapes, without selection and hints. @type {HTMLCanvasElement} */
  canvas = element("canvas", { width: CANVAS_SIDE, height: CANVAS_SIDE, "aria-hidden": "true" });
  /** Everything that has happened, in order. @type {Action[]} */
  actions = [];
  /** @type {Shape | null} */ #selected = null;
  #overlay = element("canvas", { width: CANVAS_SIDE, height: CANVAS_SIDE, "aria-hidden": "true" });
  #hint = element("p", { className: "hint", "aria-hidden": "true" });
  #status = element("p", { className: "status", role: "status" });
  #stage = element("div", { className: "stage", tabIndex: 0, role: "application", "aria-label": STAGE_LABEL }, [
    this.canvas,
    this.#overlay,
    this.#hint,
  ]);
  #tools = new Tools({
    onAdd: (form) => this.#add(form),
    onTool: (tool) => this.#useTool(tool),
    onSelect: (shape) => this.#select(shape),
  });
  #layout = element("div", { className: "playground" }, [this.#stage, this.#tools.element]);
  #world = this.#newWorld();
  /** @type {number | null} */ #animation = null;
  /** @type {Set<ActionKind>} */ #done = new Set();
  #drawn = "";

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style];
    this.#tools.element.prepend(this.#status);
    root.append(this.#layout);
    this.#stage.addEventListener("keydown", (event) => this.#onKey(event));
    new Hands({
      stage: this.#stage,
      layout: this.#layout,
      tools: this.#tools,
      world: () => this.#advanced(),
      onSelect: (shape) => this.#select(shape),
      onRefusal: (reason) => this.#announce(reason),
    });
    this.#draw();
  }

  connectedCallback() {
    if (this.hasAttribute("seed")) this.reset();
    if (!this.hidden) this.start();
  }

  disconnectedCallback() {
    this.stop();
  }

  attributeChangedCallback() {
    if (this.isConnected && !this.hidden) this.start();
    else this.stop();
  }

  /** Start to animate; done when the element is connected and not hidden. */
  start() {
    if (this.#animation !== null) return;
    const animate = () => {
      this.#animation = requestAnimationFrame(animate);
      this.#advanced();
      this.#draw();
    };
    this.#animation = requestAnimationFrame(animate);
  }

  /** Stop to animate. */
  stop() {
    if (this.#animation !== null) cancelAnimationFrame(this.#animation);
    this.#animation = null;
  }

  /** Return to the first shapes. The attribute `seed`, a number, makes random choices repeatable. */
  reset() {
    this.actions = [];
    this.#selected = null;
    this.#world = this.#newWorld();
  }

  /** The shapes on the canvas, as plain values; positions and radii are shares of the canvas's side. */
  get shapes() {
    return this.#world.shapes.map((shape) => ({
      form: shape.form,
      colour: shape.colour,
      size: shape.size,
      name: shape.name,
      x: shape.x,
      y: shape.y,
      radius: shape.radius,
      isSelected: shape === this.#selected,
      behind: shape.behind?.name ?? null,
      touches: [...shape.contacts].map((other) => other.name),
    }));
  }

  /** Whether nothing moves and nothing waits to move. */
  get isAtRest() {
    return this.#world.isAtRest;
  }

  /** Queries about the shapes on the canvas that nano understands. */
  get exampleQueries() {
    return exampleQueries(this.#world.shapes);
  }

  #newWorld() {
    const seed = this.getAttribute("seed");
    const world = new World({
      time: now(),
      random: seed === null ? Math.random : seededRandom(Number(seed)),
      onAction: (action) => this.#report(action),
      onRefusal: (reason) => this.#announce(reason),
    });
    world.place(FIRST_SHAPES);
    return world;
  }

  /** Return the world, advanced to the present time. */
  #advanced() {
    this.#world.advance(now());
    return this.#world;
  }

  /** @param {Action} action */
  #report(action) {
    this.actions.push(action);
    this.#done.add(action.kind);
    this.#announce(action.text);
    this.dispatchEvent(new CustomEvent("action", { detail: action, bubbles: true, composed: true }));
  }

  /** @param {string} text */
  #announce(text) {
    this.#status.textContent = text;
  }

  /** @param {Shape | null} shape */
  #select(shape) {
    if (shape && shape !== this.#selected) this.#announce(`Selected: ${shape.size} ${shape.name}.`);
    this.#selected = shape;
  }

  /** @param {Command} command */
  #execute(command) {
    const reason = this.#advanced().execute(command);
    if (reason !== null) this.#announce(reason);
    return reason === null;
  }

  /** @param {Form} [form] by default any */
  #add(form) {
    const { colour, size } = this.#tools;
    if (this.#execute({ type: "add", look: { form, colour, size } })) this.#tools.advanceColour(this.#world.shapes);
  }

  /** @param {Tool} tool */
  #useTool(tool) {
    if (tool === "clear") {
      this.#advanced().clear();
      return;
    }
    const { colour } = this.#tools;
    this.#withSelected((shape) => {
      this.#execute(tool === "turn" ? { type: tool, shape, colour } : { type: tool, shape });
    });
  }

  /** @param {(shape: Shape) => void} use called with the selected shape, by default the newest */
  #withSelected(use) {
    const { shapes } = this.#advanced();
    if (this.#selected === null || !shapes.includes(this.#selected)) this.#selected = shapes[shapes.length - 1] ?? null;
    if (this.#selected) use(this.#selected);
    else this.#announce("The canvas is empty. Add a shape first.");
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.toLowerCase();
    if (this.#useKey(event.key, key, event.shiftKey)) event.preventDefault();
  }

  /**
   * Execute what a key stands for; return false for other keys.
   * @param {string} name
   * @param {string} key in lower case
   * @param {boolean} withShift
   */
  #useKey(name, key, withShift) {
    if (name in ARROWS) {
      const [direction, side] = ARROWS[name];
      this.#withSelected((shape) => this.#execute(withShift ? { type: "leave", shape, side } : { type: "move", shape, direction }));
    } else if (key in TOOL_KEYS) {
      this.#withSelected((shape) => this.#execute({ type: TOOL_KEYS[key], shape }));
    } else if (key === "c") {
      this.#withSelected((shape) => this.#execute({ type: "turn", shape }));
    } else if (key === "n") {
      this.#selectNext();
    } else if (key === "a") {
      this.#add();
    } else {
      return false;
    }
    return true;
  }

  #selectNext() {
    const { shapes } = this.#world;
    if (shapes.length > 0) this.#select(shapes[(shapes.findIndex((shape) => shape === this.#selected) + 1) % shapes.length]);
  }

  /** Draw what has changed. */
  #draw() {
    const { shapes, drag } = this.#world;
    const held = drag && !drag.released ? { shape: drag.shape, hand: handOf(drag), isNew: drag.isNew } : null;
    const state = JSON.stringify([this.shapes, shapes.map((s) => s.colourShare), held && [held.hand, held.isNew]]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    drawStage(contextOf(this.canvas), shapes);
    drawOverlay(contextOf(this.#overlay), shapes, this.#selected, held);
    this.#tools.showShapes(shapes, this.#selected);
    const hint = nextHint(shapes, this.#done);
    if (this.#hint.textContent !== hint) this.#hint.textContent = hint;
  }
}

/**
 * Return the drawing context of a canvas.
 * @param {HTMLCanvasElement} canvas
 */
function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser cannot draw on a canvas; use a current browser");
  return context;
}

/**
 * Return a random generator that depends on the seed only (mulberry32).
 * @param {number} seed
 */
function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

customElements.define("mmduet-playground", Playground);

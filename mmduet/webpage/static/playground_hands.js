// @ts-check
/** Pointers on the playground: a mouse, pen or finger grabs a shape, or brings a new one from its button into the frame. */

import { HIDDEN_MARK_RADIUS } from "./playground_drawing.js";
import { sideBeyond } from "./playground_rules.js";
import { COLOURS } from "./playground_shapes.js";
import { formIcon } from "./playground_tools.js";

/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {import("./playground_shapes.js").Form} Form */
/** @typedef {import("./playground_shapes.js").Point} Point */
/** @typedef {import("./playground_tools.js").Tools} Tools */
/** @typedef {import("./playground_world.js").World} World */

/** A pointer that has moved less, in CSS pixels, has only tapped. */
const TAP_DISTANCE = 6;

/** What the pointer holds: a shape on the canvas, or a button of new shapes. */
export class Hands {
  /** @type {{id: number, x: number, y: number, form: Form | null, hasMoved: boolean} | null} */ #held = null;
  /** @type {SVGElement | null} */ #ghost = null;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.stage
   * @param {HTMLElement} parts.layout the positioned element around the stage and the tools
   * @param {Tools} parts.tools
   * @param {() => World} parts.world returns the world at the present time
   * @param {(shape: Shape | null) => void} parts.onSelect
   * @param {(reason: string) => void} parts.onRefusal
   */
  constructor(parts) {
    this.parts = parts;
    parts.stage.addEventListener("pointerdown", (event) => this.#grab(event));
    for (const [form, chip] of parts.tools.chips) {
      chip.addEventListener("pointerdown", (event) => this.#hold(event, chip, form));
      chip.addEventListener("click", (event) => this.#onChipClick(event), { capture: true });
    }
    for (const target of [parts.stage, ...parts.tools.chips.values()]) {
      target.addEventListener("pointermove", (event) => this.#move(event));
      target.addEventListener("pointerup", (event) => this.#letGo(event));
      target.addEventListener("pointercancel", (event) => this.#letGo(event));
    }
  }

  /**
   * Return the position of an event in the frame.
   * @param {MouseEvent} event
   * @returns {Point}
   */
  #pointOf(event) {
    const box = this.parts.stage.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  /** @param {PointerEvent} event */
  #grab(event) {
    if (this.#held !== null || event.button !== 0) return;
    const point = this.#pointOf(event);
    const world = this.parts.world();
    const shape = world.shapeAt(point, HIDDEN_MARK_RADIUS);
    this.parts.onSelect(shape);
    if (shape === null) return;
    this.#capture(event, this.parts.stage, null);
    world.grab(shape, point);
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} chip
   * @param {Form} form
   */
  #hold(event, chip, form) {
    if (this.#held !== null || event.button !== 0) return;
    this.#capture(event, chip, form);
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} target
   * @param {Form | null} form
   */
  #capture(event, target, form) {
    target.setPointerCapture(event.pointerId);
    this.#held = { id: event.pointerId, x: event.clientX, y: event.clientY, form, hasMoved: false };
    this.parts.stage.classList.add("holding");
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const held = this.#held;
    if (held === null || event.pointerId !== held.id) return;
    const isFirstMove = !held.hasMoved && Math.hypot(event.clientX - held.x, event.clientY - held.y) > TAP_DISTANCE;
    if (isFirstMove) held.hasMoved = true;
    if (!held.hasMoved) return;
    const point = this.#pointOf(event);
    const world = this.parts.world();
    if (isFirstMove && held.form !== null) this.#bring(world, held.form, point);
    world.moveHand(point);
    this.#showGhost(event, point);
  }

  /**
   * Start to bring a new shape to the frame.
   * @param {World} world
   * @param {Form} form
   * @param {Point} point
   */
  #bring(world, form, point) {
    const { tools, onRefusal, layout } = this.parts;
    const reason = world.grabNew({ form, colour: tools.colour, size: tools.size }, point);
    if (reason !== null) {
      onRefusal(reason);
      return;
    }
    const radius = (world.drag?.shape.radius ?? 0) * this.parts.stage.clientWidth;
    this.#ghost = formIcon(form, 2.4 * radius, { fill: `rgb(${COLOURS[tools.colour].join(",")})`, opacity: "0.75" });
    this.#ghost.classList.add("ghost");
    layout.append(this.#ghost);
  }

  /**
   * Show the new shape under the pointer as long as it is outside of the frame.
   * @param {PointerEvent} event
   * @param {Point} point
   */
  #showGhost(event, point) {
    if (this.#ghost === null) return;
    const box = this.parts.layout.getBoundingClientRect();
    const half = Number(this.#ghost.getAttribute("width")) / 2;
    this.#ghost.style.transform = `translate(${event.clientX - box.left - half}px, ${event.clientY - box.top - half}px)`;
    this.#ghost.style.visibility = sideBeyond(point) === null ? "hidden" : "visible";
  }

  /** @param {PointerEvent} event */
  #letGo(event) {
    const held = this.#held;
    if (held === null || event.pointerId !== held.id) return;
    const world = this.parts.world();
    const drag = world.drag;
    if (event.type === "pointercancel" && drag?.isNew) world.drag = null;
    const isAdded = held.form !== null && drag !== null && (!drag.isNew || sideBeyond(drag.track.last) === null);
    world.release();
    if (isAdded) {
      this.parts.onSelect(drag.shape);
      this.parts.tools.advanceColour(world.shapes);
    }
    this.#ghost?.remove();
    this.#ghost = null;
    this.parts.stage.classList.remove("holding");
    this.#held = held.form !== null && held.hasMoved ? { ...held, id: -1 } : null;
    if (this.#held) setTimeout(() => this.#forgetDrag(), 0);
  }

  #forgetDrag() {
    if (this.#held?.id === -1) this.#held = null;
  }

  /**
   * Keep the click that follows a drag from adding another shape.
   * @param {MouseEvent} event
   */
  #onChipClick(event) {
    if (this.#held?.id !== -1) return;
    event.stopImmediatePropagation();
    this.#forgetDrag();
  }
}

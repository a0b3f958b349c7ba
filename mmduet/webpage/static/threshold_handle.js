// @ts-check
/** The handle of the threshold line: a slider that is dragged or moved with the arrow keys. */
import { element, setText } from "./elements.js";

const KEY_STEPS = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1 };
const CLICK_PIXELS = 2; // a pointer that moves less is a click

/**
 * Emits `input` while the value changes, `change` when it has been chosen, and `press` with `{clientX}` for a click.
 */
export class ThresholdHandle extends EventTarget {
  /** @param {(clientY: number) => number} valueAt returns the value at a height of the page */
  constructor(valueAt) {
    super();
    this.valueAt = valueAt;
    this.value = 0;
    this.maximum = 1;
    this.dragging = false;
    this.label = element("span", { class: "threshold-label number" });
    this.element = element(
      "div",
      { class: "threshold", role: "slider", tabindex: "0", "aria-orientation": "vertical", "aria-label": "Threshold" },
      this.label,
    );
    this.element.addEventListener("pointerdown", (event) => this.#start(event));
    this.element.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) this.element.addEventListener(name, (event) => this.#finish(/** @type {PointerEvent} */ (event)));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * Display a value.
   * @param {number} value @param {number} maximum @param {number} y position in pixels @param {string} description
   */
  show(value, maximum, y, description) {
    this.value = value;
    this.maximum = maximum;
    this.element.style.transform = `translateY(${y}px)`;
    setText(this.label, value.toFixed(2));
    const attributes = { valuemin: "0", valuemax: String(maximum), valuenow: value.toFixed(2), valuetext: description };
    for (const [name, text] of Object.entries(attributes)) this.element.setAttribute(`aria-${name}`, text);
  }

  /** @param {PointerEvent} event */
  #start(event) {
    if (event.button !== 0) return;
    this.dragging = true;
    this.start = event.clientY;
    this.moved = false;
    this.element.setPointerCapture(event.pointerId);
    this.element.focus({ preventScroll: true });
    event.preventDefault();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.dragging) return;
    this.moved ||= Math.abs(event.clientY - (this.start ?? 0)) > CLICK_PIXELS;
    if (this.moved) this.#set(this.valueAt(event.clientY), "input");
  }

  /** @param {PointerEvent} event */
  #finish(event) {
    if (!this.dragging) return;
    this.dragging = false;
    if (this.moved) this.#emit("change");
    else this.dispatchEvent(new CustomEvent("press", { detail: { clientX: event.clientX } }));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = /** @type {Record<string, number>} */ (KEY_STEPS)[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (step !== undefined) this.#set(this.value + step * (event.shiftKey ? 5 : 1), "change");
    else if (event.key === "Home") this.#set(0, "change");
    else if (event.key === "End") this.#set(this.maximum, "change");
    else return;
    event.preventDefault();
  }

  /** @param {number} value @param {string} kind */
  #set(value, kind) {
    const rounded = Math.round(Math.min(Math.max(value, 0), this.maximum) * 100) / 100;
    if (rounded === this.value && kind === "input") return;
    this.value = rounded;
    this.#emit(kind);
  }

  /** @param {string} kind */
  #emit(kind) {
    this.dispatchEvent(new CustomEvent(kind, { detail: { value: this.value } }));
  }
}

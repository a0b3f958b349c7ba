// @ts-check
/** The controls beside the playground's canvas: new shapes, their colour and size, and what the selected shape does. */

import { OUTLINES } from "./playground_drawing.js";
import { COLOURS, COLOUR_NAMES, FORMS } from "./playground_shapes.js";

/** @typedef {import("./playground_shapes.js").Form} Form */
/** @typedef {import("./playground_shapes.js").Colour} Colour */
/** @typedef {import("./playground_shapes.js").Size} Size */
/** @typedef {import("./playground_shapes.js").Shape} Shape */
/** @typedef {"turn" | "grow" | "shrink" | "touch" | "hide" | "reveal" | "leave" | "clear"} Tool */

const SVG = "http://www.w3.org/2000/svg";
/** @type {readonly [Tool, string, string][]} tool, label, key */
const TOOLS = Object.freeze([
  ["turn", "Recolour", "C"],
  ["grow", "Grow", "+"],
  ["shrink", "Shrink", "-"],
  ["touch", "Touch another", "T"],
  ["hide", "Hide", "H"],
  ["reveal", "Bring out", "B"],
  ["leave", "Remove", "Delete"],
  ["clear", "Clear canvas", ""],
]);
/** @type {readonly [string, string][]} */
const KEYS = Object.freeze([
  ["N", "select the next shape"],
  ["← → ↑ ↓", "move it; with Shift: out of the frame on that side"],
  ["C", "change its colour"],
  ["+ -", "grow, shrink"],
  ["T", "touch another shape"],
  ["H, B", "hide behind another shape, bring out"],
  ["Delete", "slide it out"],
  ["A", "let a new shape enter"],
]);

/**
 * Return an element with properties, attributes (names with a dash, `role`, `for`) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, properties = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) Reflect.set(made, name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/**
 * Return a drawing of a form.
 * @param {Form} form
 * @param {number} size in CSS pixels
 * @param {Record<string, string>} paint attributes of the path, such as `fill`
 */
export function formIcon(form, size, paint) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [name, value] of Object.entries({ viewBox: "-1.2 -1.2 2.4 2.4", width: size, height: size, "aria-hidden": "true" })) {
    svg.setAttribute(name, String(value));
  }
  path.setAttribute("d", OUTLINES[form]);
  for (const [name, value] of Object.entries(paint)) path.setAttribute(name, value);
  svg.append(path);
  return svg;
}

/** The controls. They call the handlers and hold the look of the next new shape. */
export class Tools {
  /** @type {Colour} */ colour = "green";
  /** @type {Size} */ size = "small";
  /** @type {Map<Form, HTMLButtonElement>} */ chips = new Map();
  #list = element("div", { className: "row" });

  /**
   * @param {object} handlers
   * @param {(form: Form) => void} handlers.onAdd
   * @param {(tool: Tool) => void} handlers.onTool
   * @param {(shape: Shape) => void} handlers.onSelect
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.element = element("div", { className: "controls" }, [
      group("New shape: drag it into the frame, or tap it", FORMS.map((form) => this.#chip(form))),
      group("Colour", COLOUR_NAMES.map((colour) => this.#swatch(colour))),
      group("Size of new shapes", [this.#sizeChoice("small", "Small"), this.#sizeChoice("big", "Big")]),
      group("Selected shape", [this.#list]),
      group("Let it", TOOLS.map(([tool, label, key]) => this.#toolButton(tool, label, key))),
      help(),
    ]);
    this.setColour(this.colour);
  }

  /** @param {Colour} colour of new shapes, and for recolouring */
  setColour(colour) {
    this.colour = colour;
    const input = this.element.querySelector(`input[value="${colour}"]`);
    if (input instanceof HTMLInputElement) input.checked = true;
    for (const [form, chip] of this.chips) {
      chip.setAttribute("aria-label", `Add a ${colour} ${form}`);
      chip.replaceChildren(formIcon(form, 34, { fill: `rgb(${COLOURS[colour].join(",")})` }));
    }
  }

  /**
   * Choose the next colour that no shape has, so that the next new shape differs.
   * @param {readonly Shape[]} shapes on the canvas
   */
  advanceColour(shapes) {
    const present = COLOUR_NAMES.indexOf(this.colour);
    const following = [...COLOUR_NAMES.slice(present + 1), ...COLOUR_NAMES.slice(0, present)];
    this.setColour(following.find((colour) => shapes.every((shape) => shape.colour !== colour)) ?? this.colour);
  }

  /**
   * Show the shapes on the canvas as buttons that select.
   * @param {readonly Shape[]} shapes
   * @param {Shape | null} selected
   */
  showShapes(shapes, selected) {
    while (this.#list.childElementCount > shapes.length) this.#list.lastElementChild?.remove();
    shapes.forEach((shape, i) => {
      const button = this.#list.children[i] ?? this.#list.appendChild(element("button", { type: "button" }));
      const text = `${shape.size} ${shape.name}${shape.behind ? " (hidden)" : ""}`;
      if (button.textContent !== text) button.textContent = text;
      button.setAttribute("aria-pressed", String(shape === selected));
      /** @type {HTMLButtonElement} */ (button).onclick = () => this.handlers.onSelect(shape);
    });
  }

  /** @param {Form} form */
  #chip(form) {
    const chip = element("button", { type: "button", className: "chip" });
    chip.addEventListener("click", () => this.handlers.onAdd(form));
    this.chips.set(form, chip);
    return chip;
  }

  /** @param {Colour} colour */
  #swatch(colour) {
    const dot = element("i");
    dot.style.background = `rgb(${COLOURS[colour].join(",")})`;
    return this.#choice("colour", colour, colour, [dot], () => this.setColour(colour));
  }

  /**
   * @param {Size} size
   * @param {string} label
   */
  #sizeChoice(size, label) {
    const choice = this.#choice("size", size, label, [label], () => {
      this.size = size;
    });
    if (size === this.size) /** @type {HTMLInputElement} */ (choice.firstElementChild).checked = true;
    return choice;
  }

  /**
   * @param {string} name of the group
   * @param {string} value
   * @param {string} label
   * @param {(Node | string)[]} content
   * @param {() => void} onChoose
   */
  #choice(name, value, label, content, onChoose) {
    const input = element("input", { type: "radio", name, value, "aria-label": label });
    input.addEventListener("change", onChoose);
    return element("label", { className: `choice ${name === "colour" ? "swatch" : ""}`, title: label }, [
      input,
      element("span", {}, content),
    ]);
  }

  /**
   * @param {Tool} tool
   * @param {string} label
   * @param {string} key
   */
  #toolButton(tool, label, key) {
    const button = element("button", { type: "button", textContent: label, "data-tool": tool });
    if (key) button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", () => this.handlers.onTool(tool));
    return button;
  }
}

/**
 * @param {string} label
 * @param {Node[]} children
 */
function group(label, children) {
  return element("fieldset", {}, [element("legend", { textContent: label }), element("div", { className: "row" }, children)]);
}

function help() {
  const rows = KEYS.flatMap(([key, text]) => [
    element("dt", {}, [element("kbd", { textContent: key })]),
    element("dd", { textContent: text }),
  ]);
  return element("details", {}, [element("summary", { textContent: "Keys on the canvas" }), element("dl", {}, rows)]);
}

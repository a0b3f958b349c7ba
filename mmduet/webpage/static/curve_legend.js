// @ts-check
/** Legend and styles of the score curve. */
import { element, setText, styleSheet } from "./elements.js";
import { describeScore } from "./speak_policy.js";

export const curveSheet = styleSheet(`
  .heading { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; margin-bottom: 4px; font-size: 12px; }
  .legend { display: contents; list-style: none; }
  .legend li { display: flex; align-items: center; gap: 6px; }
  .legend svg { flex: none; overflow: visible; }
  .heading select { min-height: 28px; padding: 0 6px; font-size: 12px; margin-left: auto; }
  .box { position: relative; height: var(--curve-height, 168px); overflow: hidden; touch-action: pan-y; }
  .surface { position: absolute; inset: 0; cursor: crosshair; border-radius: 4px; }
  .surface:focus-visible { outline-offset: -2px; }
  canvas { width: 100%; height: 100%; display: block; }
  .threshold {
    position: absolute; inset: -12px 0 auto 34px; height: 24px; cursor: ns-resize; touch-action: none; border-radius: 4px;
  }
  .threshold-label {
    position: absolute; right: 0; top: 1px; min-width: 44px; height: 22px; padding: 0 6px; border-radius: 4px;
    background: var(--threshold); color: var(--on-accent); font-size: 12px; line-height: 22px; text-align: center;
  }
  .readout {
    position: absolute; left: 38px; top: 0; padding: 0 6px; border-radius: 4px; font-size: 12px; white-space: pre;
    background: var(--surface); border: 1px solid var(--line); visibility: hidden; pointer-events: none; max-width: 85%;
    overflow: hidden; text-overflow: ellipsis;
  }
  .readout.visible { visibility: visible; }
  :host([compact]) .box { --curve-height: 56px; }
  :host([compact]) .readout { display: none; }
  @media (forced-colors: active) { .threshold-label { border: 1px solid; } }
`);

const SVG = "http://www.w3.org/2000/svg";

/** Return the legend and a function that displays the policy in it. */
export function legend() {
  const score = element("li", {}, sample("var(--decision)", 3, ""), element("span", {}, "score"));
  const threshold = element("span", {});
  const list = element("ul", { class: "legend", "aria-label": "Lines of the curve" },
    entry(sample("var(--informative)", 2, ""), "informative", "something new"),
    entry(sample("var(--relevance)", 2, "5 3"), "relevance", "matches the query"),
    score,
    element("li", {}, sample("var(--threshold)", 1.5, "2 3"), threshold),
    element("li", {}, diamond(), element("span", {}, "spoke")),
  );
  /**
   * @param {import("./speak_policy.js").SpeakSettings} settings
   * @param {number | null} value
   */
  const show = (settings, value) => {
    const description = describeScore(settings);
    score.hidden = description === settings.heads[0];
    setText(score.lastElementChild ?? score, `score: ${description}`);
    setText(threshold, value === null ? "never speaks unprompted" : "threshold (drag)");
  };
  return { element: list, show };
}

/** @param {SVGElement} picture @param {string} term @param {string} meaning */
function entry(picture, term, meaning) {
  return element("li", {}, picture, element("span", {}, term, " ", element("small", {}, meaning)));
}

/** @param {string} colour @param {number} width @param {string} dash */
function sample(colour, width, dash) {
  const line = document.createElementNS(SVG, "line");
  const attributes = { x1: "0", x2: "22", y1: "5", y2: "5", "stroke-width": String(width), "stroke-dasharray": dash };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  line.style.stroke = colour;
  return drawing(22, line);
}

function diamond() {
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", "M5 0 L10 5 L5 10 L0 5 Z");
  shape.style.fill = "var(--threshold)";
  return drawing(10, shape);
}

/** @param {number} width @param {SVGElement} content */
function drawing(width, content) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ width: String(width), height: "10", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  svg.append(content);
  return svg;
}

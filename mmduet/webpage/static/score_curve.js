// @ts-check
/**
 * `<mmduet-curve>`: informative and relevance scores over time, the threshold line, and markers where the model spoke.
 *
 * Events: `thresholdinput` and `thresholdchange` with `{value}`, `seek` with `{time, id}`. Attribute `compact`: no labels.
 */
import { CurvePainter, readColours } from "./curve_painter.js";
import { curveSheet, legend } from "./curve_legend.js";
import { attachRoot, define, element, setText } from "./elements.js";
import { formatScore, formatTime } from "./format.js";
import { ScoreHistory } from "./score_history.js";
import { DecisionScore, describeScore } from "./speak_policy.js";
import { followTheme, themeSheet } from "./theme.js";
import { ThresholdHandle } from "./threshold_handle.js";

/** @typedef {import("./curve_painter.js").Marker} Marker */

const MAX_MARKERS = 1000;
const MIN_SPAN = 15; // seconds that the time axis has at least
const MARKER_REACH = 9; // pixels

export class ScoreCurve extends HTMLElement {
  constructor() {
    super();
    this.history = new ScoreHistory();
    this.policy = new DecisionScore();
    /** @type {Marker[]} */
    this.markers = [];
    this.span = 60; // seconds that are displayed; Infinity: everything
    /** @type {number | null} */
    this.cursor = null;
    /** @type {number | null} */
    this.playhead = null;
    /** @type {string | null} */
    this.selected = null;
    this.interactive = true;
    this.handle = new ThresholdHandle((y) => this.#valueAt(y));
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.readout = element("div", { class: "readout number" });
    this.surface = element(
      "div",
      { class: "surface", role: "slider", tabindex: "0", "aria-label": "Frame", "aria-valuemin": "0" },
      this.canvas,
    );
    this.box = element("div", { class: "box" }, this.surface, this.handle.element, this.readout);
    this.#listen();
  }

  connectedCallback() {
    const compact = this.hasAttribute("compact");
    if (this.shadowRoot === null) attachRoot(this, [themeSheet, curveSheet], ...(compact ? [] : [this.#heading()]), this.box);
    if (compact) this.#makeStatic();
    this.stopTheme = followTheme(this, () => {
      this.colours = /** @type {import("./curve_painter.js").Colours | undefined} */ (undefined);
      this.redraw();
    });
    this.resizes = new ResizeObserver(() => this.redraw());
    this.resizes.observe(this.box);
    this.redraw();
  }

  disconnectedCallback() {
    this.stopTheme?.();
    this.resizes?.disconnect();
  }

  /**
   * Add the scores of a frame.
   * @param {{time: number, informative: number | null, relevance: number | null, decision: string}} frame
   */
  addScore(frame) {
    const score = this.policy.add(frame);
    const point = { time: frame.time, informative: frame.informative, relevance: frame.relevance, score };
    this.history.add({ ...point, threshold: this.policy.threshold, spoke: frame.decision === "speak" });
    this.redraw();
    return score;
  }

  /** @param {Marker} marker */
  addMarker(marker) {
    this.markers.push(marker);
    if (this.markers.length > MAX_MARKERS) this.markers.splice(0, this.markers.length - MAX_MARKERS);
    this.redraw();
  }

  /** @param {Partial<import("./speak_policy.js").SpeakSettings>} settings */
  setPolicy(settings) {
    this.policy.update(settings);
    this.redraw();
  }

  clear() {
    this.history.clear();
    this.markers = [];
    this.policy.reset();
    this.cursor = this.playhead = this.selected = null;
    this.redraw();
  }

  /** Draw once before the next repaint. */
  redraw() {
    if (this.pending || !this.isConnected) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.#draw();
    });
  }

  /** Return the displayed interval in seconds. */
  range() {
    const start = this.history.start ?? 0;
    const end = this.history.end ?? start;
    const from = Math.max(start, end - this.span);
    return { from, to: Math.max(end, from + Math.min(MIN_SPAN, this.span)) };
  }

  /** Return the largest value of the vertical axis. */
  top() {
    const { policy, value, heads } = this.policy.settings;
    if (policy !== "sum") return heads.length;
    const { from, to } = this.range();
    return Math.max(1, value * 1.25, this.history.maximum("score", from, to));
  }

  /** A small curve is an image: not operated by keyboard, described by the view that contains it. */
  #makeStatic() {
    this.interactive = false;
    for (const name of ["tabindex", "aria-valuemin"]) this.surface.removeAttribute(name);
    this.surface.setAttribute("role", "img");
    this.surface.setAttribute("aria-label", "Scores over time");
  }

  #heading() {
    const spans = [["60", "last minute"], ["600", "last 10 minutes"], ["Infinity", "everything"]];
    const choice = element("select", { "aria-label": "Displayed time" },
      ...spans.map(([value, text]) => element("option", { value }, text)));
    choice.value = String(this.span);
    choice.addEventListener("change", () => {
      this.span = Number(choice.value);
      this.redraw();
    });
    this.legend = legend();
    return element("div", { class: "heading" }, this.legend.element, choice);
  }

  #draw() {
    const compact = this.hasAttribute("compact");
    const { width, height } = this.box.getBoundingClientRect();
    if (width < 40 || height < 20) return;
    const scale = Math.min(devicePixelRatio || 1, 2);
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    this.plot = compact
      ? { left: 4, top: 8, width: width - 10, height: height - 12 }
      : { left: 34, top: 16, width: width - 34 - 48, height: height - 16 - 24 };
    const { from, to } = this.range();
    const { settings, threshold } = this.policy;
    const separateScore = settings.heads.length > 1 || settings.policy === "sum";
    this.colours ??= readColours(this);
    this.painter = new CurvePainter(context, this.colours, this.plot, compact);
    this.state = {
      history: this.history, markers: this.markers, from, to, top: this.top(), threshold, separateScore,
      decidingSeries: separateScore ? "score" : settings.heads[0],
      cursor: this.cursor, playhead: this.playhead, selected: this.selected,
    };
    this.painter.draw(this.state);
    this.#placeHandle();
    this.legend?.show(settings, threshold);
    this.#describeCursor();
  }

  #placeHandle() {
    const { threshold, settings } = this.policy;
    this.handle.element.hidden = threshold === null || !this.interactive || this.hasAttribute("compact");
    if (threshold === null || this.painter === undefined || this.state === undefined) return;
    const text = `speaks if ${describeScore(settings)} is above ${threshold.toFixed(2)}`;
    const maximum = settings.policy === "sum" ? Math.max(10, threshold) : settings.heads.length;
    this.handle.show(threshold, maximum, this.painter.y(threshold, this.state), text);
  }

  #describeCursor() {
    const point = this.cursor === null ? this.history.points.at(-1) : this.history.nearest(this.cursor);
    const text = point === undefined || point === null ? "no frame yet" : describePoint(point);
    if (this.hasAttribute("compact")) return;
    setText(this.readout, this.cursor === null ? "" : text);
    this.readout.classList.toggle("visible", this.cursor !== null);
    this.surface.setAttribute("aria-valuetext", text);
    this.surface.setAttribute("aria-valuenow", String(point?.time ?? 0));
    this.surface.setAttribute("aria-valuemax", String(this.history.end ?? 0));
  }

  #listen() {
    const surface = this.surface;
    surface.addEventListener("pointermove", (event) => this.#setCursor(this.#timeAt(event.clientX)));
    surface.addEventListener("pointerleave", () => this.#setCursor(null));
    surface.addEventListener("blur", () => this.#setCursor(null));
    surface.addEventListener("click", (event) => this.#seek(this.#timeAt(event.clientX)));
    surface.addEventListener("keydown", (event) => this.#key(event));
    this.handle.addEventListener("input", (event) => this.#changeThreshold(event, "thresholdinput"));
    this.handle.addEventListener("press", (event) => {
      this.#seek(this.#timeAt(/** @type {CustomEvent} */ (event).detail.clientX));
    });
    this.handle.addEventListener("change", (event) => this.#changeThreshold(event, "thresholdchange"));
  }

  /** @param {Event} event @param {string} kind */
  #changeThreshold(event, kind) {
    const { value } = /** @type {CustomEvent} */ (event).detail;
    this.setPolicy({ value });
    this.#placeHandle();
    this.dispatchEvent(new CustomEvent(kind, { detail: { value }, bubbles: true }));
  }

  /** @param {number | null} time */
  #setCursor(time) {
    if (time === this.cursor || (time !== null && this.history.size === 0)) return;
    this.cursor = time;
    this.redraw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const points = this.history.points;
    if (points.length === 0) return;
    const current = this.cursor === null ? points.length - 1 : this.history.indexAt(this.cursor);
    const steps = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10,
      PageDown: -10, Home: -points.length, End: points.length });
    if (event.key === "Enter" || event.key === " ") this.#seek(this.cursor ?? points[current].time);
    else if (event.key === "Escape") this.#setCursor(null);
    else if (event.key in steps) {
      const index = Math.min(Math.max(current + steps[event.key], 0), points.length - 1);
      this.#setCursor(points[index].time);
    } else return;
    event.preventDefault();
  }

  /** @param {number | null} time */
  #seek(time) {
    if (time === null) return;
    const { from, to } = this.range();
    const reach = (MARKER_REACH / (this.plot?.width ?? 1)) * (to - from);
    const replies = this.markers.filter((each) => each.kind === "reply" && Math.abs(each.time - time) <= reach);
    const closest = replies.sort((a, b) => Math.abs(a.time - time) - Math.abs(b.time - time))[0];
    const detail = { time: closest?.time ?? time, id: closest?.id ?? null };
    this.dispatchEvent(new CustomEvent("seek", { detail, bubbles: true }));
  }

  /** @param {number} clientX */
  #timeAt(clientX) {
    const end = this.history.end;
    if (this.plot === undefined || end === null) return null;
    const { from, to } = this.range();
    const share = (clientX - this.box.getBoundingClientRect().left - this.plot.left) / this.plot.width;
    return Math.min(Math.max(from + share * (to - from), from), end);
  }

  /** @param {number} clientY */
  #valueAt(clientY) {
    if (this.plot === undefined) return 0;
    const share = (clientY - this.box.getBoundingClientRect().top - this.plot.top) / this.plot.height;
    return (1 - share) * this.top();
  }
}

/** @param {import("./score_history.js").ScorePoint} point */
function describePoint(point) {
  const scores = `informative ${formatScore(point.informative)}, relevance ${formatScore(point.relevance)}`;
  return `${formatTime(point.time)}  ${scores}${point.spoke ? ", spoke" : ""}`;
}

define("mmduet-curve", ScoreCurve);

// @ts-check
/**
 * Draws the score curve on a canvas. Series differ in dash pattern and width as well as in colour.
 *
 * @typedef {import("./score_history.js").ScoreHistory} ScoreHistory
 * @typedef {object} Marker a moment at which the model spoke, the user asked, or a frame was dropped
 * @property {number} time seconds
 * @property {"reply" | "query" | "drop"} kind
 * @property {number | null} score
 * @property {boolean} [forced] the reply was requested
 * @property {string} [id]
 *
 * @typedef {object} CurveState
 * @property {ScoreHistory} history
 * @property {Marker[]} markers
 * @property {number} from
 * @property {number} to
 * @property {number} top largest value of the axis
 * @property {number | null} threshold
 * @property {boolean} separateScore whether the deciding score is a line of its own
 * @property {string} decidingSeries
 * @property {number | null} cursor
 * @property {number | null} playhead
 * @property {string | null} selected id of a reply
 *
 * @typedef {{left: number, top: number, width: number, height: number}} Plot
 * @typedef {Record<"text" | "muted" | "line" | "surface" | "informative" | "relevance" | "decision" | "threshold", string>} Colours
 */

export const STYLES = {
  informative: { dash: [], width: 1.75 },
  relevance: { dash: [6, 4], width: 1.75 },
  score: { dash: [], width: 3 },
};

/**
 * Read the colours of the theme from an element.
 * @param {HTMLElement} host
 * @returns {Colours}
 */
export function readColours(host) {
  const style = getComputedStyle(host);
  const read = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  const text = style.color;
  return {
    text, muted: text, line: text, surface: read("surface"), informative: read("informative"), relevance: read("relevance"),
    decision: read("decision"), threshold: read("threshold"),
  };
}

export class CurvePainter {
  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Colours} colours
   * @param {Plot} plot
   * @param {boolean} compact without labels of the axes
   */
  constructor(context, colours, plot, compact) {
    this.context = context;
    this.colours = colours;
    this.plot = plot;
    this.compact = compact;
  }

  /** @param {CurveState} state */
  draw(state) {
    this.state = state;
    const { context, plot } = this;
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    this.#grid(state);
    context.save();
    context.beginPath();
    context.rect(plot.left, 0, plot.width + 6, plot.top + plot.height + 1);
    context.clip();
    this.#area(state);
    this.#series(state, "relevance", state.decidingSeries === "relevance");
    this.#series(state, "informative", state.decidingSeries === "informative");
    if (state.separateScore) this.#series(state, "score", true);
    this.#threshold(state);
    this.#cursors(state);
    context.restore();
    for (const marker of state.markers) this.#marker(state, marker);
  }

  /** @param {number} time @param {CurveState} state */
  x(time, state) {
    return this.plot.left + ((time - state.from) / (state.to - state.from)) * this.plot.width;
  }

  /** @param {number} value @param {CurveState} state */
  y(value, state) {
    return this.plot.top + (1 - Math.min(value, state.top) / state.top) * this.plot.height;
  }

  /** @param {CurveState} state */
  #grid(state) {
    const { context, plot, colours } = this;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    for (const value of ticks(0, state.top, this.compact ? 1 : 4)) {
      const y = Math.round(this.y(value, state)) + 0.5;
      this.#line([[plot.left, y], [plot.left + plot.width, y]], colours.line, value === 0 ? 0.45 : 0.12);
      if (!this.compact) this.#label(value.toFixed(state.top > 4 ? 0 : 1), plot.left - 6, y, "right", "middle");
    }
    if (this.compact) return;
    for (const time of ticks(state.from, state.to, Math.max(2, plot.width / 90))) {
      const x = this.x(time, state);
      this.#line([[x, plot.top + plot.height], [x, plot.top + plot.height + 4]], colours.line, 0.45);
      if (x < plot.left + plot.width - 8 && x >= plot.left) {
        this.#label(timeLabel(time), x, plot.top + plot.height + 7, "center", "top");
      }
    }
  }

  /**
   * Fill where the deciding score exceeded the threshold of that moment.
   * @param {CurveState} state
   */
  #area(state) {
    const { context, colours } = this;
    const series = /** @type {any} */ (state.decidingSeries);
    const vertices = state.history.vertices(series, state.from, state.to);
    if (vertices.length < 2 || state.threshold === null) return;
    const base = this.y(state.threshold, state);
    context.save();
    context.beginPath();
    context.rect(this.plot.left, 0, this.plot.width, base);
    context.clip();
    context.beginPath();
    context.moveTo(this.x(vertices[0][0], state), base);
    for (const [time, value] of vertices) context.lineTo(this.x(time, state), this.y(value ?? 0, state));
    context.lineTo(this.x(vertices[vertices.length - 1][0], state), base);
    context.globalAlpha = 0.22;
    context.fillStyle = colours.threshold;
    context.fill();
    context.restore();
  }

  /**
   * @param {CurveState} state
   * @param {import("./score_history.js").Series} name
   * @param {boolean} deciding
   */
  #series(state, name, deciding) {
    const { context, colours } = this;
    const style = STYLES[name];
    context.save();
    context.setLineDash(style.dash);
    context.lineWidth = deciding ? 2.5 : style.width - 0.25;
    context.lineJoin = "round";
    context.strokeStyle = name === "score" ? colours.decision : colours[name];
    context.beginPath();
    let connected = false;
    for (const [time, value] of state.history.vertices(name, state.from, state.to)) {
      if (value === null) connected = false;
      else if (connected) context.lineTo(this.x(time, state), this.y(value, state));
      else context.moveTo(this.x(time, state), this.y(value, state));
      connected = value !== null;
    }
    context.stroke();
    context.restore();
  }

  /** @param {CurveState} state */
  #threshold(state) {
    const { context, plot, colours } = this;
    if (state.threshold === null) return;
    const y = Math.round(this.y(state.threshold, state)) + 0.5;
    context.save();
    context.setLineDash([2, 3]);
    context.lineWidth = 1.5;
    this.#line([[plot.left, y], [plot.left + plot.width, y]], colours.threshold, 1);
    context.lineWidth = 1;
    this.#pastThresholds(state);
    context.restore();
  }

  /**
   * Draw the thresholds that frames were compared with, where they differ from the present one.
   * @param {CurveState} state
   */
  #pastThresholds(state) {
    const points = state.history.points;
    for (let index = Math.max(1, state.history.indexAt(state.from)); index < points.length; index++) {
      const { time, threshold } = points[index];
      if (threshold === null || threshold === state.threshold || points[index - 1].time > state.to) continue;
      const y = this.y(threshold, state);
      this.#line([[this.x(points[index - 1].time, state), y], [this.x(time, state), y]], this.colours.threshold, 0.7);
    }
  }

  /** @param {CurveState} state */
  #cursors(state) {
    const { plot, colours } = this;
    for (const [time, alpha] of /** @type {const} */ ([[state.playhead, 0.35], [state.cursor, 0.8]])) {
      if (time === null) continue;
      const x = Math.round(this.x(time, state)) + 0.5;
      this.#line([[x, plot.top], [x, plot.top + plot.height]], colours.text, alpha);
    }
  }

  /** @param {CurveState} state @param {Marker} marker */
  #marker(state, marker) {
    const { context, plot, colours } = this;
    if (marker.time < state.from || marker.time > state.to) return;
    const x = this.x(marker.time, state);
    const bottom = plot.top + plot.height;
    if (marker.kind === "drop") {
      this.#cross(x, bottom - 4, colours.text);
    } else if (marker.kind === "query") {
      this.#line([[x, plot.top], [x, bottom]], colours.text, 0.25);
      if (!this.compact) this.#badge("?", x, plot.top - 6);
    } else {
      const y = this.y(marker.score ?? 0, state);
      this.#line([[x, y], [x, bottom]], colours.threshold, 0.55);
      const size = marker.id !== undefined && marker.id === state.selected ? 7 : 5;
      context.beginPath();
      for (const [dx, dy] of [[0, -size], [size, 0], [0, size], [-size, 0]]) context.lineTo(x + dx, y + dy);
      context.closePath();
      context.fillStyle = marker.forced ? colours.surface || "transparent" : colours.threshold;
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = marker.forced ? colours.threshold : colours.surface || colours.text;
      context.stroke();
    }
  }

  /** @param {string} text @param {number} x @param {number} y */
  #badge(text, x, y) {
    const { context, colours } = this;
    context.beginPath();
    context.arc(x, y, 6, 0, 7);
    context.fillStyle = colours.text;
    context.fill();
    context.fillStyle = colours.surface || "Canvas";
    context.font = "bold 9px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x, y + 0.5);
  }

  /** @param {number} x @param {number} y @param {string} colour */
  #cross(x, y, colour) {
    this.#line([[x - 2.5, y - 2.5], [x + 2.5, y + 2.5]], colour, 0.7);
    this.#line([[x - 2.5, y + 2.5], [x + 2.5, y - 2.5]], colour, 0.7);
  }

  /** @param {Array<[number, number]>} points @param {string} colour @param {number} alpha */
  #line(points, colour, alpha) {
    const { context } = this;
    context.globalAlpha = alpha;
    context.strokeStyle = colour;
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x, y);
    context.stroke();
    context.globalAlpha = 1;
  }

  /**
   * @param {string} text @param {number} x @param {number} y
   * @param {CanvasTextAlign} align @param {CanvasTextBaseline} baseline
   */
  #label(text, x, y, align, baseline) {
    const { context, colours } = this;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = align;
    context.textBaseline = baseline;
    context.globalAlpha = 0.75;
    context.fillStyle = colours.muted;
    context.fillText(text, x, y);
    context.globalAlpha = 1;
  }
}

/**
 * Return round values between two numbers, about `count` intervals.
 * @param {number} from @param {number} to @param {number} count
 */
export function ticks(from, to, count) {
  const raw = (to - from) / Math.max(1, count);
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const steps = to - from > 12 ? [1, 2, 3, 6, 12, 30, 60] : [1, 2, 5, 10];
  const step = (steps.find((each) => each * magnitude >= raw - 1e-9) ?? 10) * magnitude;
  const values = [];
  for (let value = Math.ceil(from / step - 1e-9) * step; value <= to + 1e-9; value += step) values.push(value);
  return values;
}

/** @param {number} seconds */
function timeLabel(seconds) {
  if (seconds < 60) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// @ts-check
/** `<mmduet-figures>`: latency, frame rate, and what was dropped for which reason. */
import { attachRoot, define, element, setText, styleSheet } from "./elements.js";
import { formatCount, formatDuration } from "./format.js";
import { themeSheet } from "./theme.js";

const sheet = styleSheet(`
  dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 10px 16px; }
  dt { font-size: 12px; font-weight: 600; }
  dd { font-size: 16px; font-variant-numeric: tabular-nums; }
  dd.term { font-size: 12px; line-height: 1.35; }
  .dropped { font-size: 14px; line-height: 24px; overflow-wrap: anywhere; }
  .place { margin-top: 8px; }
`);

/** Why frames are dropped, in plain words beside the protocol's term. @type {Record<string, string>} */
const REASONS = {
  late: "newer frames came first", rate: "above the frame rate", decode_error: "not readable", duplicate: "sent twice",
  paused: "while paused", closed: "session ended", not_sent: "before sending",
};

export class FiguresPanel extends HTMLElement {
  constructor() {
    super();
    this.score = pair();
    this.word = pair();
    this.rate = element("dd", {}, "–");
    this.scored = element("dd", {}, "0");
    this.dropped = element("dd", { class: "dropped" }, "none");
    this.place = element("small");
  }

  connectedCallback() {
    const list = element("dl", {},
      group("Frame to score", this.score.element, "p50 / p95 of all frames"),
      group("Frame to first word", this.word.element, "p50 / p95 of triggers"),
      group("Frames", this.scored, "scored"),
      group("Rate", this.rate, "scored per second (fps)"),
      group("Dropped", this.dropped, "frames, by reason"),
    );
    attachRoot(this, [themeSheet, sheet], list, element("p", { class: "place" }, this.place));
  }

  /**
   * Display the figures.
   * @param {import("./session_figures.js").SessionFigures} figures
   * @param {number} [notSent] frames that were dropped before they were sent
   */
  show(figures, notSent = 0) {
    for (const [shown, values] of /** @type {const} */ ([[this.score, figures.frameToScore], [this.word, figures.frameToWord]])) {
      setText(shown.median, formatDuration(values.quantile(0.5)));
      setText(shown.tail, formatDuration(values.quantile(0.95)));
    }
    setText(this.scored, formatCount(figures.scored));
    setText(this.rate, figures.rate(performance.now()).toFixed(1));
    setText(this.dropped, describeDropped({ ...figures.dropped, not_sent: notSent }));
    setText(this.place, figures.measuredHere ? "Latency is measured in this browser, from the capture of a frame on."
      : "Latency is measured by the server, from the arrival of a frame on.");
  }
}

/**
 * Return the number of dropped frames by reason.
 * @param {Record<string, number>} dropped
 */
export function describeDropped(dropped) {
  const parts = Object.entries(dropped).filter(([, count]) => count > 0)
    .map(([reason, count]) => `${formatCount(count)} ${reason} (${REASONS[reason] ?? "other"})`.replace("not_sent (", "unsent ("));
  return parts.length === 0 ? "none" : parts.join(", ");
}

function pair() {
  const [median, tail] = [element("span", {}, "–"), element("span", {}, "–")];
  return { median, tail, element: element("dd", {}, median, " / ", tail) };
}

/** @param {string} name @param {HTMLElement} value @param {string} term */
function group(name, value, term) {
  return element("div", {}, element("dt", {}, name), value, element("dd", { class: "term" }, term));
}

define("mmduet-figures", FiguresPanel);

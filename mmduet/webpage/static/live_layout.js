// @ts-check
/** Elements and styles of the live view. */
import { element, styleSheet } from "./elements.js";

export const liveSheet = styleSheet(`
  :host { container-type: inline-size; }
  .view { display: grid; gap: 16px; grid-template: "main" auto "talk" auto "figures" auto / minmax(0, 1fr); }
  .main { grid-area: main; display: flex; flex-direction: column; gap: 12px; min-width: 0; }
  .talk { grid-area: talk; position: relative; min-height: 420px; }
  .figures { grid-area: figures; }
  .panel { border: 1px solid var(--line); border-radius: 8px; background: var(--surface); }
  .padded { padding: 12px; }
  .talk mmduet-conversation { position: absolute; inset: 0; }
  .player { overflow: hidden; }
  .stage { position: relative; background: #0b0d10; aspect-ratio: 16 / 9; max-height: 440px; width: 100%; overflow: hidden; }
  .picture { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; display: block; }
  .caption {
    position: absolute; inset: auto 0 0 0; padding: 28px 16px 10px; color: #fff; pointer-events: none;
    background: linear-gradient(transparent, rgb(0 0 0 / 82%) 45%);
  }
  .caption p { font-size: 17px; line-height: 1.35; text-shadow: 0 1px 2px #000; overflow-wrap: anywhere; }
  .caption .why { font-size: 12px; color: #e6e8eb; }
  .review {
    position: absolute; inset: 8px 8px auto 8px; display: flex; flex-wrap: wrap; gap: 8px; align-items: center;
    padding: 6px 8px 6px 12px; border-radius: 6px; background: var(--surface); border: 1px solid var(--line);
  }
  .review span { flex: 1 1 auto; }
  .bar {
    display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; padding: 8px 12px; min-height: 38px;
    border-top: 1px solid var(--line);
  }
  .pill { font-weight: 600; white-space: nowrap; }
  .pill::before { content: "○"; display: inline-block; width: 1.3em; }
  .bar .message { flex: 1 1 200px; }
  .bar .times { color: var(--muted); font-size: 12px; white-space: nowrap; }
  [data-state="live"] .pill::before { content: "●"; color: var(--good); }
  [data-state="paused"] .pill::before { content: "❚❚"; font-size: 10px; letter-spacing: -1px; width: 2.2em; }
  [data-state="connecting"] .pill::before, [data-state="queued"] .pill::before { content: "◌"; }
  [data-state="retrying"] .pill::before { content: "↻"; color: var(--warn); }
  [data-state="ended"] .pill::before { content: "■"; }
  [data-state="failed"] .pill::before { content: "✕"; color: var(--bad); }
  [data-state="failed"] .pill { color: var(--bad); }
  [data-state="retrying"] .pill { color: var(--warn); }
  .controls { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; padding: 0 12px 12px; }
  .controls button, .controls select { padding: 0 10px; }
  .controls label { display: flex; gap: 6px; align-items: center; font-size: 12px; }
  .controls .end { margin-left: auto; }
  .export { border-top: 1px solid var(--line); padding: 12px; display: grid; gap: 12px; }
  .export header { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; justify-content: space-between; }
  .export pre {
    margin: 4px 0 0; padding: 8px; border-radius: 6px; background: var(--sunken); overflow: auto; max-height: 220px;
    font: 12px/1.5 var(--font-mono, ui-monospace, monospace); white-space: pre-wrap; overflow-wrap: anywhere;
  }
  .stage[data-kind="playground"] { max-height: 200px; }
  @container (min-width: 700px) {
    .view { gap: 12px; grid-template: "main talk" auto "figures figures" auto / minmax(0, 1.6fr) minmax(260px, 1fr); }
  }
  @container (max-width: 480px) {
    .caption p { font-size: 15px; }
    .controls .end { margin-left: 0; }
    .padded { padding: 10px; }
  }
`);

/** Create the elements of the live view. */
export function createLayout() {
  const parts = {
    stage: element("div", { class: "stage" }),
    caption: element("div", { class: "caption", hidden: true, "aria-hidden": "true" }),
    captionText: element("p"),
    captionWhy: element("p", { class: "why number" }),
    review: element("div", { class: "review", hidden: true }),
    reviewTime: element("span"),
    playHere: element("button", { type: "button" }, "Play from here"),
    backToLive: element("button", { type: "button", class: "primary" }, "Back to live"),
    bar: element("div", { class: "bar" }),
    pill: element("span", { class: "pill" }),
    message: element("span", { class: "text" }),
    countdown: element("span", { class: "countdown" }),
    help: element("a", { class: "help", target: "_blank", rel: "noreferrer", hidden: true }, "How to set up HTTPS"),
    times: element("span", { class: "times number" }),
    pause: element("button", { type: "button", disabled: true }, "Pause"),
    stop: element("button", { type: "button", disabled: true }, "Stop"),
    restart: element("button", { type: "button", disabled: true }, "Restart"),
    speed: element("select"),
    speedLabel: element("label", {}, "Speed"),
    exportButton: element("button", { type: "button", class: "end", "aria-expanded": "false", disabled: true }, "Export"),
    exportPanel: element("section", { class: "export", hidden: true, "aria-label": "Export" }),
    curve: /** @type {import("./score_curve.js").ScoreCurve} */ (document.createElement("mmduet-curve")),
    conversation: /** @type {import("./conversation.js").Conversation} */ (document.createElement("mmduet-conversation")),
    figures: /** @type {import("./figures.js").FiguresPanel} */ (document.createElement("mmduet-figures")),
  };
  for (const [value, text] of [["0.5", "½×"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["", "as scored"]]) {
    parts.speed.append(element("option", { value }, text));
  }
  parts.speed.value = "1";
  parts.speedLabel.append(parts.speed);
  parts.speed.title = "1× is real time; as scored: as fast as the model can";
  parts.caption.append(parts.captionText, parts.captionWhy);
  parts.review.append(parts.reviewTime, parts.playHere, parts.backToLive);
  parts.stage.append(parts.caption, parts.review);
  const status = element("span", { class: "message" },
    element("span", { role: "status" }, parts.message), " ", parts.countdown, " ", parts.help);
  parts.bar.append(parts.pill, status, parts.times);
  return { ...parts, view: arrange(parts) };
}

/** @param {any} parts */
function arrange(parts) {
  const controls = element("div", { class: "controls", role: "group", "aria-label": "Playback" },
    parts.pause, parts.stop, parts.restart, parts.speedLabel, parts.exportButton);
  const player = element("section", { class: "panel player", "aria-label": "Video" }, parts.stage, parts.bar, controls, parts.exportPanel);
  const main = element("div", { class: "main" }, player,
    element("section", { class: "panel padded", "aria-label": "Scores" }, parts.curve));
  return element("div", { class: "view" }, main,
    element("section", { class: "panel talk", "aria-label": "Conversation" }, parts.conversation),
    element("section", { class: "panel padded figures", "aria-label": "Figures" }, parts.figures));
}

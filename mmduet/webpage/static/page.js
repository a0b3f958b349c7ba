// @ts-check
/** Builds the live page: connects Gradio's controls with the live view, the wall, the sources and the results. */

import "./live_view.js";
import "./wall.js";
import "./playground.js";
import { openAccess } from "./access.js";
import { byName, changedControls, sessionSettings, speakSettings, withPreset } from "./controls.js";
import { element } from "./elements.js";
import { fillParts } from "./page_parts.js";
import { footer, header } from "./page_frame.js";
import { Requests } from "./requests.js";
import { ResultsPanel } from "./results.js";
import { Uploads, uploadPanel } from "./uploads.js";
import { HTTPS_HELP, addressPanel, capturePanel, clipPanel } from "./video_sources.js";
import { wallPanel } from "./wall_panel.js";

const EXAMPLE_QUERIES = 4;
const config = JSON.parse(document.getElementById("mmduet-config")?.textContent ?? "{}");

/** The page of one visitor. */
class Page {
  /**
   * @param {import("./mmduet.js").ClientSecret} secret
   * @param {any[]} clips
   */
  constructor(secret, clips) {
    this.requests = new Requests(secret);
    this.clips = clips;
    this.uploads = new Uploads(this.requests, config);
    this.view = /** @type {any} */ (document.createElement("mmduet-live"));
    this.view.clientSecret = secret;
    this.view.helpUrl = HTTPS_HELP;
    this.wall = /** @type {any} */ (document.createElement("mmduet-wall"));
    this.wall.clientSecret = secret;
    this.playground = /** @type {any} */ (document.createElement("mmduet-playground"));
    this.results = new ResultsPanel(this.requests, clips, this.uploads);
    /** @type {Record<string, any>} changes that Gradio's controls do not show yet */
    this.pendingValues = {};
    /** @type {Record<string, any>} */
    this.values = { query: config.presets[0].query, ...config.settings.duet.speak, fps: config.settings.duet.fps };
    this.view.addEventListener("settingschange", (/** @type {CustomEvent} */ event) => {
      this.#setControls(changedControls(event.detail.duet));
    });
    this.wall.addEventListener("select", (/** @type {CustomEvent} */ event) => {
      selectTab("Live");
      this.start(event.detail.source);
    });
  }

  /** Fill the parts of the page. */
  build() {
    const choose = (/** @type {any} */ source) => this.start(source);
    fillParts({
      header: () => header(config),
      view: () => element("div", { class: "mmduet-view" }, this.playground, this.view),
      "source-clips": () => clipPanel(this.clips, choose),
      "source-playground": () => this.#playgroundPanel(),
      "source-camera": () => capturePanel("camera", choose),
      "source-screen": () => capturePanel("screen", choose),
      "source-upload": () => uploadPanel(this.uploads, choose),
      "source-stream": () => addressPanel(this.requests, config.allows_addresses, choose),
      wall: () => wallPanel(this.wall, this.clips, config.allows_addresses),
      "results-video": () => this.results.videoChoice,
      results: () => this.results.element,
      footer: () => footer(config),
    });
    this.playground.hidden = true;
    this.view.update({ speak: config.settings.duet.speak }); // the curve shows the threshold before the first start
  }

  /**
   * Let the model watch a source with the settings of the controls.
   * @param {any} source
   */
  async start(source) {
    this.playground.hidden = source.kind !== "playground";
    if (source.preset) this.#setControls(this.#presetValues(this.values, source.preset, source.query));
    await this.view.start(source, { query: this.values.query, duet: sessionSettings(this.values) });
  }

  /**
   * Called by Gradio when a control has changed: apply what a running session accepts.
   * @param {string[]} names
   * @param {any[]} values
   */
  onControls(names, values) {
    const before = JSON.stringify(speakSettings(this.values));
    this.values = byName(names, values);
    const settings = speakSettings(this.values);
    if (JSON.stringify(settings) !== before) this.view.update(settings);
  }

  /**
   * Called by Gradio when a preset was chosen; returns the new values of the controls.
   * @param {string[]} names
   * @param {any[]} values
   */
  applyPreset(names, values) {
    const current = byName(names, values);
    /** @type {Record<string, any>} */
    const changed = this.#presetValues(current, current.preset);
    this.onControls(names, names.map((name) => changed[name]));
    if (this.view.isRunning) this.view.ask(changed.query);
    return names.map((name) => changed[name]);
  }

  /**
   * Called by Gradio after ``mmduet:settings``; returns the new values of the controls.
   * @param {string[]} names
   * @param {any[]} values
   */
  takeSettings(names, values) {
    this.values = { ...byName(names, values), ...this.pendingValues };
    this.pendingValues = {};
    return names.map((name) => this.values[name]);
  }

  /**
   * Called by Gradio: compute a finished result.
   * @param {string} task
   * @param {string} query
   */
  runTask(task, query) {
    this.results.run(task, query);
  }

  /** Called by Gradio: stop computing. */
  stopTask() {
    this.results.stop();
  }

  /**
   * Return the values of the controls for a preset, with its query or another one.
   * @param {Record<string, any>} values
   * @param {string} name
   * @param {string} [query]
   * @returns {Record<string, any>}
   */
  #presetValues(values, name, query) {
    const preset = config.presets.find((/** @type {any} */ item) => item.name === name);
    const changed = withPreset(values, preset, config.settings.duet.speak);
    return { ...changed, preset: name, query: query ?? changed.query };
  }

  /**
   * Change values here and in Gradio's controls.
   * @param {Record<string, any>} changes
   */
  #setControls(changes) {
    this.values = { ...this.values, ...changes };
    this.pendingValues = { ...this.pendingValues, ...changes };
    dispatchEvent(new Event("mmduet:settings"));
  }

  #playgroundPanel() {
    const start = (/** @type {string | null} */ query) => {
      if (query !== null) this.#setControls({ query });
      this.start({ kind: "playground", canvas: this.playground.canvas });
    };
    const example = (/** @type {string} */ query) =>
      element("button", { class: "mmduet-button mmduet-secondary", type: "button", onclick: () => start(query) }, query);
    const examples = this.playground.exampleQueries.slice(0, EXAMPLE_QUERIES).map(example);
    return element(
      "div",
      { class: "mmduet-panel" },
      element("p", {}, "Draw for the model: add shapes, drag them, change their colour. It describes what you do while you do it."),
      element("button", { class: "mmduet-button", type: "button", onclick: () => start(null) }, "Open the playground"),
      element("p", { id: "mmduet-playground-examples" }, "Or open it with a question:"),
      element("div", { class: "mmduet-row", role: "group", "aria-labelledby": "mmduet-playground-examples" }, ...examples),
    );
  }
}

/**
 * Select a tab of Gradio's.
 * @param {string} label
 */
function selectTab(label) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  /** @type {HTMLElement | undefined} */ (tabs.find((tab) => tab.textContent?.trim() === label))?.click();
}

/** Open the page once the visitor has access. */
async function main() {
  const secret = await openAccess(config.access);
  const clips = await new Requests(secret).send("GET", "page/clips");
  const page = new Page(secret, clips);
  /** @type {any} */ (globalThis).mmduetPage = page;
  page.build();
}

/** Open the page; show an error with a button that tries again. */
async function openPage() {
  try {
    await main();
  } catch (error) {
    const again = element("button", { class: "mmduet-button", type: "button" }, "Try again");
    const text = `The page could not start: ${/** @type {Error} */ (error).message}`;
    const box = element("div", { class: "mmduet-part mmduet-row" }, element("p", { role: "alert", class: "mmduet-problem" }, text), again);
    again.addEventListener("click", () => {
      box.remove();
      openPage();
    });
    document.body.prepend(box);
  }
}

openPage();

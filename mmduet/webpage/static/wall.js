// @ts-check
/**
 * `<mmduet-wall>`: up to 16 clips or cameras side by side, each with a session of its own, and the batch that scores them.
 *
 * Properties before `start`: `clientSecret`, `url`, `statsUrl`, `connectOptions`, `waitSeconds`. Event: `select` with `{source}`.
 */
import { BatchPanel } from "./batch_panel.js";
import { attachRoot, define, element, setText, whenRemoved } from "./elements.js";
import { followTheme, themeSheet } from "./theme.js";
import { WallTile } from "./wall_tile.js";
import { wallSheet } from "./wall_style.js";

export const MAX_TILES = 16;
const REFRESH_MILLISECONDS = 500;

export class Wall extends HTMLElement {
  constructor() {
    super();
    this.url = new URL("../v1/realtime", document.baseURI).href;
    this.statsUrl = new URL("../v1/stats", document.baseURI).href;
    this.connectOptions = /** @type {Record<string, any>} */ ({});
    this.waitSeconds = 60;
    /** @type {WallTile[]} */
    this.tiles = [];
    this.grid = element("ul", { class: "grid" });
    this.summary = element("p", { role: "status" }, "No streams.");
    this.stopButton = element("button", { type: "button", disabled: true }, "Stop all");
    this.stopButton.addEventListener("click", () => this.stop());
    this.batch = new BatchPanel(() => this.#fetchStats());
  }

  connectedCallback() {
    const header = element("header", {}, this.summary, this.stopButton);
    attachRoot(this, [themeSheet, wallSheet], header, this.grid, this.batch.element);
    this.stopTheme = followTheme(this);
    this.#startTimer();
    addEventListener("pagehide", this.#onPageHide);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
    removeEventListener("pagehide", this.#onPageHide);
    this.stopTheme?.();
    whenRemoved(this, () => {
      this.batch.stop();
      this.#close();
    });
  }

  /** Credential of this tab. @param {any} clientSecret */
  set clientSecret(clientSecret) {
    this.connectOptions = { ...this.connectOptions, clientSecret };
  }

  /**
   * Start a session for each source; the previous ones are closed.
   * @param {import("./live_session.js").LiveSource[]} sources at most 16
   * @param {import("./live_session.js").LiveSettings} [settings]
   */
  start(sources, settings = {}) {
    this.#close();
    return Promise.all(sources.slice(0, MAX_TILES).map((source) => this.add(source, settings)));
  }

  /**
   * Start a session for one more source. Throws `RangeError` if the wall is full.
   * @param {import("./live_session.js").LiveSource} source
   * @param {import("./live_session.js").LiveSettings} [settings]
   */
  add(source, settings = {}) {
    if (this.tiles.length >= MAX_TILES) throw new RangeError(`The wall is full: it shows at most ${MAX_TILES} streams.`);
    const options = { url: this.url, connectOptions: this.connectOptions, waitSeconds: this.waitSeconds };
    const tile = new WallTile(source, options);
    tile.addEventListener("select", () => this.dispatchEvent(new CustomEvent("select", { detail: { source } })));
    this.tiles.push(tile);
    this.grid.append(tile.element);
    this.batch.start();
    const started = tile.start(settings);
    this.#startTimer();
    this.#refresh();
    return started;
  }

  /** End all sessions; their last state stays visible. */
  stop() {
    return Promise.all(this.tiles.map((tile) => tile.live.stop()));
  }

  /** Display the state of all sessions while one is active. */
  #startTimer() {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.#refresh(), REFRESH_MILLISECONDS);
  }

  #close() {
    for (const tile of this.tiles) tile.close();
    this.tiles = [];
    this.grid.replaceChildren();
  }

  #refresh() {
    const count = (/** @type {string} */ state) => this.tiles.filter((tile) => tile.live.state === state).length;
    const active = this.tiles.filter((tile) => tile.live.active).length;
    const parts = [`${count("live")} of ${this.tiles.length} live`];
    for (const [state, name] of [["queued", "waiting for a place"], ["retrying", "retrying"], ["ended", "ended"], ["failed", "failed"]]) {
      if (count(state) > 0) parts.push(`${count(state)} ${name}`);
    }
    setText(this.summary, this.tiles.length === 0 ? "No streams." : parts.join(", "));
    this.stopButton.disabled = active === 0;
    if (active > 0) return;
    this.batch.stop();
    clearInterval(this.timer);
  }

  async #fetchStats() {
    const { clientSecret, key } = this.connectOptions;
    const secret = typeof clientSecret === "string" ? clientSecret : await clientSecret?.value?.();
    const credential = secret ?? key;
    const response = await fetch(this.statsUrl, credential ? { headers: { Authorization: `Bearer ${credential}` } } : {});
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response.json();
  }

  #onPageHide = () => this.tiles.forEach((tile) => tile.live.close());
}

define("mmduet-wall", Wall);

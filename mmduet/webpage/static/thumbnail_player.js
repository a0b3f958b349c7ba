// @ts-check
/** Shows the thumbnails that the server sends of a source which the browser cannot play: what the model has seen. */
import { element } from "./elements.js";
import { StillStore } from "./still_store.js";

const MAX_THUMBNAILS = 1200; // data URLs of about 5 kB

/**
 * Emits `mode` after a change of `reviewing`.
 */
export class ThumbnailPlayer extends EventTarget {
  constructor() {
    super();
    this.reviewing = false;
    this.canPlayReview = false;
    /** @type {StillStore<string>} */
    this.thumbnails = new StillStore(MAX_THUMBNAILS);
    this.limit = -Infinity;
    this.time = 0;
    this.element = element("img", { class: "picture thumbnail", alt: "What the model has seen so far" });
    this.element.hidden = true;
  }

  /** @param {number} time in seconds @param {string} address data URL of an image */
  addThumbnail(time, address) {
    if (!address.startsWith("data:image/")) return;
    this.thumbnails.add(time, address);
    this.#show();
  }

  /** @param {number} time of a frame that has been scored, in seconds */
  scored(time) {
    this.limit = Math.max(this.limit, time);
    this.#show();
  }

  /** Show the closest thumbnail that is still in memory. @param {number} time */
  review(time) {
    const entry = this.thumbnails.nearest(Math.min(time, this.limit));
    if (entry === null) return;
    this.#setReviewing(true);
    this.#display(entry);
  }

  playReview() {}

  backToLive() {
    this.#setReviewing(false);
    this.#show();
  }

  /** Whether the picture does not change without a new thumbnail. */
  get isAtRest() {
    return true;
  }

  /** Called when the session has ended. */
  finish() {}

  destroy() {
    this.thumbnails.clear();
  }

  #show() {
    const entry = this.reviewing ? null : this.thumbnails.newestUntil(this.limit);
    if (entry !== null && entry.time !== this.shown) this.#display(entry);
  }

  /** @param {{time: number, picture: string}} entry */
  #display(entry) {
    this.element.src = entry.picture;
    this.element.hidden = false;
    this.time = this.shown = entry.time;
  }

  /** @param {boolean} reviewing */
  #setReviewing(reviewing) {
    if (this.reviewing === reviewing) return;
    this.reviewing = reviewing;
    this.dispatchEvent(new Event("mode"));
  }
}

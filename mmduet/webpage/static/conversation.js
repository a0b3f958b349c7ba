// @ts-check
/**
 * `<mmduet-conversation>`: queries, context, streaming replies and notes with their times, and the form to ask.
 *
 * Events: `ask` with `{text, replyNow}`, `seek` with `{time, id}`.
 */
import { conversationSheet } from "./conversation_style.js";
import { attachRoot, define, element, setText } from "./elements.js";
import { formatDuration, formatTime } from "./format.js";
import { followTheme, themeSheet } from "./theme.js";

const MAX_ENTRIES = 300;

/**
 * @typedef {object} Trigger why the model spoke
 * @property {number | null} time
 * @property {boolean} forced
 * @property {string} comparison such as "informative 0.83 > 0.45"
 */

export class Conversation extends HTMLElement {
  constructor() {
    super();
    this.omittedCount = 0;
    /** @type {Map<string, {entry: HTMLElement, text: HTMLElement, why: HTMLElement, comparison: string}>} */
    this.replies = new Map();
    this.omitted = element("p", { class: "omitted", hidden: true });
    this.list = element("ol", { class: "entries" });
    this.empty = element("p", { class: "empty" }, "Replies and questions appear here.");
    this.scroller = element("div", { class: "scroller", role: "log", "aria-live": "off", tabindex: "0", "aria-label": "Conversation" },
      this.omitted, this.empty, this.list);
    this.followsEnd = true; // whether the newest entry is in view
    this.scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.announcer = element("div", { class: "visually-hidden", "aria-live": "polite" });
    this.input = element("input", {
      type: "text", id: "query", name: "query", maxlength: "2000", autocomplete: "off",
      placeholder: "Tell me when …",
    });
    this.askButton = element("button", { class: "primary" }, "Ask");
    this.nowButton = element("button", { type: "button", title: "Reply now, regardless of the scores (response.create)" }, "Reply now");
    this.form = this.#form();
    this.enabled = false;
  }

  connectedCallback() {
    attachRoot(this, [themeSheet, conversationSheet], this.scroller, this.form, this.announcer);
    this.stopTheme = followTheme(this);
  }

  disconnectedCallback() {
    this.stopTheme?.();
  }

  /** Whether questions can be asked. @param {boolean} enabled */
  set enabled(enabled) {
    this.input.disabled = this.askButton.disabled = this.nowButton.disabled = !enabled;
  }

  clear() {
    this.list.replaceChildren();
    this.replies.clear();
    this.omittedCount = 0;
    this.#trim();
    this.empty.hidden = false;
  }

  /** @param {{text: string, time: number | null, role: string}} turn of the user */
  addTurn({ text, time, role }) {
    const name = role === "system" ? "Context" : "You";
    this.#append(element("li", { class: "turn" }, this.#time(time, null), element("div", {},
      element("p", { class: "author" }, name, element("small", {}, role === "system" ? "context" : "query")),
      element("p", { class: "text" }, text))));
  }

  /** @param {string} text */
  addNote(text) {
    this.#append(element("li", { class: "note" }, text));
    setText(this.announcer, text);
  }

  /** @param {string} id @param {Trigger} trigger */
  startReply(id, { time, forced, comparison }) {
    const text = element("p", { class: "text" });
    const why = element("p", { class: "why number" }, forced ? "asked to reply now" : comparison);
    const entry = element("li", { class: "reply streaming", dataset: { reply: id } }, this.#time(time, id),
      element("div", {}, element("p", { class: "author" }, "Model", element("small", {}, "reply")), text, why));
    this.replies.set(id, { entry, text, why, comparison: why.textContent ?? "" });
    this.#append(entry);
  }

  /** @param {string} id @param {string} delta */
  appendText(id, delta) {
    const reply = this.replies.get(id);
    if (reply === undefined) return;
    reply.text.append(delta);
    this.#scrollToEnd();
  }

  /**
   * Finish a reply; one without text is removed.
   * @param {string} id @param {{status: string, firstWord: number | null, tokens: number | null}} result
   */
  finishReply(id, { status, firstWord, tokens }) {
    const reply = this.replies.get(id);
    if (reply === undefined) return;
    reply.entry.classList.remove("streaming");
    const text = reply.text.textContent ?? "";
    if (text === "" && status !== "completed") reply.text.append(status === "cancelled" ? "(cancelled)" : "(no text)");
    const parts = [reply.comparison];
    if (firstWord !== null) parts.push(`first word after ${formatDuration(firstWord)}`);
    if (tokens !== null) parts.push(`${tokens} tokens`);
    if (status !== "completed") parts.push(status);
    setText(reply.why, parts.join(" · "));
    setText(this.announcer, text);
  }

  /** Emphasize a reply and scroll to it. @param {string | null} id */
  select(id) {
    for (const entry of this.list.querySelectorAll(".selected")) entry.classList.remove("selected");
    const reply = id === null ? undefined : this.replies.get(id);
    if (reply === undefined) return;
    reply.entry.classList.add("selected");
    const offset = reply.entry.offsetTop - this.scroller.offsetTop;
    if (offset < this.scroller.scrollTop || offset > this.scroller.scrollTop + this.scroller.clientHeight - 40) {
      this.scroller.scrollTop = offset - 40;
    }
  }

  #form() {
    const label = element("label", { for: "query" }, "Ask or instruct ", element("small", {}, "query"));
    const form = element("form", {}, label, element("div", { class: "row" }, this.input, this.askButton, this.nowButton));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask(false);
    });
    this.nowButton.addEventListener("click", () => this.#ask(true));
    return form;
  }

  /** @param {boolean} replyNow */
  #ask(replyNow) {
    const text = this.input.value.trim();
    if (text === "" && !replyNow) {
      this.input.focus();
      return;
    }
    this.dispatchEvent(new CustomEvent("ask", { detail: { text, replyNow } }));
    this.input.value = "";
  }

  /** @param {number | null} time @param {string | null} id */
  #time(time, id) {
    if (time === null) return element("span", { class: "time number" }, "–");
    const button = element("button", { class: "plain time number", type: "button", "aria-label": `Show ${formatTime(time)}` },
      formatTime(time));
    button.addEventListener("click", () => this.dispatchEvent(new CustomEvent("seek", { detail: { time, id } })));
    return button;
  }

  /** @param {HTMLElement} entry */
  #append(entry) {
    this.list.append(entry);
    this.empty.hidden = true;
    this.#trim();
    this.#scrollToEnd();
  }

  #trim() {
    while (this.list.children.length > MAX_ENTRIES) {
      const oldest = /** @type {HTMLElement} */ (this.list.firstElementChild);
      if (oldest.dataset.reply !== undefined) this.replies.delete(oldest.dataset.reply);
      oldest.remove();
      this.omittedCount++;
    }
    this.omitted.hidden = this.omittedCount === 0;
    setText(this.omitted, `${this.omittedCount} earlier entries are not displayed any more; the exported log may contain them.`);
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.followsEnd = scrollHeight - scrollTop - clientHeight < 40;
  }

  /** Show the newest entry at the next repaint, unless the user has scrolled back. */
  #scrollToEnd() {
    if (!this.followsEnd || this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.scroller.scrollTop = this.scroller.scrollHeight;
    });
  }
}

define("mmduet-conversation", Conversation);

// @ts-check
/** The export of a live view: download of the log, command line and Python code to copy. */
import { element, setText } from "./elements.js";
import { toCommand, toJsonLines, toPython } from "./export_session.js";
import { formatCount } from "./format.js";

export class ExportBox {
  /**
   * @param {HTMLElement} container
   * @param {import("./live_session.js").LiveSession} live
   */
  constructor(container, live) {
    this.live = live;
    this.about = element("small");
    const download = element("button", { type: "button" }, "Download JSON lines");
    download.addEventListener("click", () => this.#download());
    this.command = element("pre", { tabindex: "0", "aria-label": "Command line" });
    this.python = element("pre", { tabindex: "0", "aria-label": "Python code" });
    container.append(
      element("div", {}, element("header", {}, element("h2", {}, "Session log ", this.about), download)),
      this.#snippet("Command line ", "the same on your machine", this.command),
      this.#snippet("Python ", "the same at this server", this.python),
    );
  }

  /** Display the present state of the session. */
  show() {
    const { log } = this.live;
    const omitted = log.omitted > 0 ? `, ${formatCount(log.omitted)} older ones omitted` : "";
    setText(this.about, `${formatCount(log.events.length)} events${omitted}`);
    const record = this.live.record();
    setText(this.command, record === null ? "" : toCommand(record));
    setText(this.python, record === null ? "" : toPython(record));
  }

  /** @param {string} title @param {string} meaning @param {HTMLElement} text */
  #snippet(title, meaning, text) {
    const copy = element("button", { type: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      setText(copy, (await copyText(text)) ? "Copied" : "Press Ctrl+C");
      setTimeout(() => setText(copy, "Copy"), 2000);
    });
    return element("div", {}, element("header", {}, element("h2", {}, title, element("small", {}, meaning)), copy), text);
  }

  #download() {
    this.show();
    const text = toJsonLines(this.live.log, { page: document.title });
    const address = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
    element("a", { href: address, download: "session.jsonl" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
}

/**
 * Copy the text of an element, or select it where the browser does not allow that.
 * @param {HTMLElement} source
 */
async function copyText(source) {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    return true;
  } catch {
    const selection = getSelection();
    selection?.selectAllChildren(source);
    return false;
  }
}

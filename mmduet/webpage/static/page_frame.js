// @ts-check
/** Head and foot of the live page. */

import { element } from "./elements.js";

/** @param {any} config */
export function header(config) {
  const access = { open: "this machine only", public: "open to visitors", key: "with access key" }[String(config.access)];
  const nano = config.model === "nano" ? " (2.8 million parameters; it knows only coloured shapes)" : "";
  return element(
    "header",
    { class: "mmduet-header" },
    element("h1", {}, "A video model that decides when to speak"),
    element(
      "p",
      {},
      "It scores every frame: is there something new (informative), does it matter to the question (relevance)? " +
        "When the score passes the threshold, it speaks.",
    ),
    element("p", { class: "mmduet-note" }, `Model ${config.model}${nano} · mmduet ${config.version} · ${access}`),
  );
}

/** @param {any} _config */
export function footer(_config) {
  return element(
    "footer",
    { class: "mmduet-note" },
    "Frames and uploads stay on this server. The page loads nothing from other hosts.",
  );
}

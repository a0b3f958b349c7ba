// @ts-check
/** Head and foot of the live page. */

import { element } from "./dom.js";

/** @param {any} config */
export function header(config) {
  const access = { open: "this machine only", public: "open to visitors", key: "with access key" }[String(config.access)];
  return element(
    "header",
    { class: "mmduet-header" },
    element("h1", {}, "A video model that decides when to speak"),
    element(
      "p",
      {},
      "The model watches frame by frame. After every frame two small heads give scores: is there something new (informative), " +
        "and does it matter to the question (relevance)? When the score passes the threshold, the model speaks.",
    ),
    element("p", { class: "mmduet-note" }, `Model ${config.model} · mmduet ${config.version} · ${access}`),
    config.model === "nano"
      ? element(
          "p",
          { class: "mmduet-note" },
          "nano has 2.8 million parameters and knows only coloured shapes: try the sample clips and the playground. " +
            "What it says about other videos is meaningless; the scores and the timing work all the same.",
        )
      : null,
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

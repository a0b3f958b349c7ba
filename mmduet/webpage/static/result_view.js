// @ts-check
/** Shows a finished result: captions, spans over a film strip, highlights or answers, with their files. */

import { element } from "./elements.js";
import { formatTime } from "./format.js";

/**
 * Return the view of a result.
 * @param {any} result as ``GET results/ID`` describes it
 * @returns {Node}
 */
export function showResult(result) {
  const { task, result: values, files } = result;
  const notes = values.warnings.map((/** @type {any} */ warning) =>
    element("p", { role: "note" }, warning.message ?? String(warning)),
  );
  const shown = { caption: showCaptions, ground: showSpans, highlight: showHighlights, ask: showAnswers }[String(task)];
  return element("div", {}, ...notes, ...(shown ? shown(values, files) : []));
}

/**
 * @param {any} values
 * @param {any} files
 * @returns {Node[]}
 */
function showCaptions(values, files) {
  const rows = values.segments.map((/** @type {any} */ item) => [formatTime(item.start), formatTime(item.end), item.caption]);
  if (rows.length === 0) return [nothing("The model had nothing to report.")];
  return [table(["From", "To", "Caption"], rows), ...subtitles(files, "captions.vtt")];
}

/**
 * @param {any} values
 * @param {any} files
 * @returns {Node[]}
 */
function showSpans(values, files) {
  const rows = values.spans.map((/** @type {any} */ span) => [formatTime(span.start), formatTime(span.end), span.score.toFixed(2)]);
  return [
    ...(files.film_strip
      ? [element("img", { src: files.film_strip, alt: "Film strip with the spans that were found; the table lists them" })]
      : []),
    rows.length ? table(["From", "To", "Relevance"], rows) : nothing("Nothing in the video matches the question."),
  ];
}

/**
 * @param {any} values
 * @param {any} files
 * @returns {Node[]}
 */
function showHighlights(values, files) {
  if (values.top.length === 0) return [nothing("Nothing stands out.")];
  const players = values.top.map((/** @type {any} */ span, /** @type {number} */ index) => {
    const caption = `${index + 1}: ${formatTime(span.start)} to ${formatTime(span.end)}, score ${span.score.toFixed(2)}`;
    const url = files.spans[index] ?? null;
    const clip =
      url === null
        ? nothing("This highlight has no clip.")
        : element("video", { src: url, controls: true, preload: "metadata", "aria-label": `Highlight ${caption}` });
    return element("figure", {}, clip, element("figcaption", {}, caption));
  });
  const reel = files.reel ? [link(files.reel, "highlights.mp4", "Download all as one video")] : [];
  return [element("div", { class: "mmduet-players" }, ...players), ...reel];
}

/**
 * @param {any} values
 * @param {any} files
 * @returns {Node[]}
 */
function showAnswers(values, files) {
  const rows = values.answers.map((/** @type {any} */ answer) => [formatTime(answer.start), answer.text]);
  if (rows.length === 0) return [nothing("The model had no answer.")];
  return [table(["At", "Answer"], rows), ...subtitles(files, "answers.vtt")];
}

/** Return the link to the subtitles; none if they could not be written. @param {any} files @param {string} name */
function subtitles(files, name) {
  return files.captions ? [link(files.captions, name, "Download subtitles (WebVTT)")] : [];
}

/** @param {string} text */
function nothing(text) {
  return element("p", {}, text);
}

/**
 * @param {string} url
 * @param {string} name
 * @param {string} label
 */
function link(url, name, label) {
  return element("a", { href: url, download: name }, label);
}

/**
 * @param {string[]} heads
 * @param {any[][]} rows
 */
function table(heads, rows) {
  const cells = (/** @type {any[]} */ row) => element("tr", {}, ...row.map((cell) => element("td", {}, String(cell))));
  return element(
    "table",
    { class: "mmduet-table" },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map(cells)),
  );
}

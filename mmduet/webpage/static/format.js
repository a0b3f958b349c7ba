// @ts-check
/** Numbers and times as text. */

/**
 * Return a time of the video as `m:ss.t`, or `h:mm:ss` from an hour on.
 * @param {number | null | undefined} seconds
 */
export function formatTime(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const hours = Math.floor(tenths / 36000);
  const minutes = Math.floor(tenths / 600) % 60;
  const rest = (tenths % 600) / 10;
  if (hours > 0) return `${hours}:${pad(minutes)}:${pad(Math.floor(rest))}`;
  return `${minutes}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}

/** @param {number} number */
function pad(number) {
  return String(number).padStart(2, "0");
}

/**
 * Return milliseconds as text: `85 ms`, `1.4 s`.
 * @param {number | null | undefined} milliseconds
 */
export function formatDuration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined || !Number.isFinite(milliseconds)) return "–";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10000 ? 1 : 0)} s`;
}

/**
 * Return a score with two digits.
 * @param {number | null | undefined} score
 */
export function formatScore(score) {
  return score === null || score === undefined || !Number.isFinite(score) ? "–" : score.toFixed(2);
}

/**
 * Return a number with thousands separated by a narrow space.
 * @param {number} number
 */
export function formatCount(number) {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/**
 * Return `1 frame`, `2 frames`.
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

// @ts-check
/** What the page displays about the state of a session, in plain words. */
import { formatTime, plural } from "./format.js";

/**
 * @typedef {"idle" | "queued" | "connecting" | "live" | "paused" | "retrying" | "ended" | "failed"} State
 * @typedef {object} Status
 * @property {State} state
 * @property {string} text
 * @property {number} [retryAt] wall time of the next attempt, in milliseconds of `performance.now()`
 * @property {string} [code] stable code of an error
 */

/** @type {Record<State, string>} */
export const STATE_NAMES = {
  idle: "Ready", queued: "Waiting for a place", connecting: "Connecting", live: "Live", paused: "Paused",
  retrying: "Retrying", ended: "Ended", failed: "Stopped by an error",
};

/** What to do, for errors of the server whose message does not state it. @type {Record<string, string>} */
const ADVICE = {
  no_capacity: "All places of the server are taken. Start again in a minute.",
  capacity: "All places of the server are taken. Start again in a minute.",
  rate_limit_exceeded: "A limit for each visitor is reached. Close other sessions of this browser, or start again in a minute.",
  unauthorized: "Enter a valid access key, then start again.",
  forbidden_origin: "The server does not accept this page's address; its setting allowed_origins must name it.",
  connection_lost: "Check that the server is running and can be reached, then start again.",
  session_closed: "Start again to open a new session.",
  bad_video: "Convert the video to MP4 (H.264) or choose another one.",
  corrupt_video: "The file is damaged. Convert it to MP4 (H.264) or choose another one.",
  no_decoder: "Convert the video to MP4 (H.264) or choose another one.",
  no_video_stream: "Choose a file that contains a video.",
  video_not_found: "The video does not exist any more. Upload it again or choose another one.",
  bad_source: "Choose another source; the server reads only those that its settings allow.",
  internal: "Start again. If it happens again, look at the server's log.",
};

/**
 * Return the message of an error with what to do about it.
 * @param {{code?: string, message?: string}} error
 */
export function describeError({ code = "", message = "" }) {
  const sentence = message === "" ? "The session cannot continue." : capitalize(message).replace(/[.!]*$/, ".");
  const advice = ADVICE[code];
  return advice === undefined ? sentence : `${sentence} ${advice}`;
}

/**
 * @param {{position: number, estimatedWait: number | null}} queue
 * @returns {Status}
 */
export function queuedStatus({ position, estimatedWait }) {
  const place = position === 1 ? "You are next" : `${position - 1} ${position === 2 ? "visitor is" : "visitors are"} before you`;
  const wait = estimatedWait === null || estimatedWait === undefined ? "" : `, about ${roughly(estimatedWait)}`;
  return { state: "queued", text: `The server is full. ${place}${wait}. The session starts automatically.` };
}

/**
 * @param {string} what
 * @param {string | null | undefined} reason
 * @param {number | null | undefined} seconds until the next attempt
 * @returns {Status}
 */
export function retryingStatus(what, reason, seconds) {
  const text = `${what}${reason ? `: ${reason}` : ""}`.replace(/[.!]*$/, ".");
  return { state: "retrying", text, retryAt: performance.now() + 1000 * (seconds ?? 0) };
}

/**
 * Return the text of a status with its countdown.
 * @param {Status} status
 */
export function describeStatus(status) {
  if (status.retryAt === undefined) return status.text;
  const seconds = Math.ceil((status.retryAt - performance.now()) / 1000);
  return `${status.text} ${seconds > 0 ? `Retrying in ${seconds} s.` : "Retrying now."}`;
}

/**
 * @param {{reason?: string, frames?: Record<string, number>, duration_s?: number}} closed `session.closed`
 * @returns {Status}
 */
export function endedStatus({ reason, frames = {}, duration_s: duration }) {
  const reasons = /** @type {Record<string, string>} */ ({
    idle: "The server ended the session because nothing was sent for a long time. ",
    shutdown: "The server was stopped. ",
  });
  const length = duration === undefined ? "" : ` in ${formatTime(duration)}`;
  return { state: "ended", text: `${reasons[reason ?? ""] ?? ""}${plural(frames.scored ?? 0, "frame")} scored${length}.` };
}

/** @param {number} seconds */
function roughly(seconds) {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} minutes`;
}

/** @param {string} text */
function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

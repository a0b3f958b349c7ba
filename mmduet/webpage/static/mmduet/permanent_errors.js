// @ts-check
/** Decides whether a lost connection can be replaced, or why not. */

import { realtimeUrl } from "./address.js";
import { credentialError, explainRejection } from "./diagnosis.js";
import { MmduetError } from "./errors.js";

/** @typedef {import("./connection.js").Loss} Loss */

/** Close code for a client that has waited in the queue in vain. */
export const TRY_AGAIN_LATER = 1013;
const REJECTED_MESSAGE_CODES = [1007, 1009];
const SECRET_PREFIX = "ek_";

/**
 * Return why no session could be opened.
 * @param {string | URL} server
 * @param {Loss} loss
 * @param {string | null} credential
 * @param {string | undefined} model
 * @returns {Promise<MmduetError>}
 */
export async function openingError(server, { wasOpen, code, reason }, credential, model) {
  const { origin } = realtimeUrl(server);
  if (wasOpen) {
    return new MmduetError(code === TRY_AGAIN_LATER ? "capacity" : "server", `${origin} has opened no session: ${reason}`);
  }
  const error = await explainRejection(server, credential, model);
  return error ?? new MmduetError(
    "server",
    `${origin} answers over HTTP but does not open a WebSocket (${reason}); a limit of the key may be reached, or a proxy does ` +
      "not forward WebSockets",
  );
}

/**
 * Return why a session cannot be resumed, or null to try again.
 * @param {string | URL} server
 * @param {Loss} loss
 * @param {string | null} key an API key; with a client secret it is null, because an expired one may still resume
 * @returns {Promise<MmduetError | null>}
 */
export async function resumingError(server, { wasOpen, code, reason }, key) {
  if (REJECTED_MESSAGE_CODES.includes(code)) return new MmduetError("server", `the server rejected a message: ${reason}`);
  if (wasOpen || key === null || key.startsWith(SECRET_PREFIX)) return null;
  const error = await credentialError(server, key).catch(() => null);
  return error?.code === "unauthorized" ? error : null;
}

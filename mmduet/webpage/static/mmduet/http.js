// @ts-check
/** HTTP requests to the server. */

import { MmduetError, parseErrorBody } from "./errors.js";

const TIMEOUT_MILLISECONDS = 10000;

/**
 * Send a request. Throws `MmduetError` with the code `server` if the server cannot be reached.
 * @param {string} method
 * @param {URL} url
 * @param {string | null} credential an API key or a client secret
 * @returns {Promise<Response>}
 */
export async function request(method, url, credential) {
  /** @type {Record<string, string>} */
  const headers = credential === null ? {} : { Authorization: `Bearer ${credential}` };
  try {
    return await fetch(url, { method, headers, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS) });
  } catch (cause) {
    throw new MmduetError("server", `${url.origin} cannot be reached; is a server running there?`, { cause });
  }
}

/**
 * Return the error that a response reports.
 * @param {Response} response
 * @returns {Promise<MmduetError>}
 */
export async function responseError(response) {
  const { origin, pathname } = new URL(response.url);
  const parsed = parseErrorBody(await response.text());
  return parsed ?? new MmduetError("server", `${origin}${pathname} answered with status ${response.status}; is it an mmduet server?`);
}

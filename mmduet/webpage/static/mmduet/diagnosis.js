// @ts-check
/**
 * Finds out why a WebSocket was not opened. Browsers hide the HTTP status of a rejected handshake from pages, so the same
 * credential is tried with HTTP requests.
 */

import { httpUrl } from "./address.js";
import { MmduetError } from "./errors.js";
import { request, responseError } from "./http.js";

/**
 * Return the error that explains why a new session could not be opened, or null if nothing is wrong now.
 * @param {string | URL} server
 * @param {string | null} credential
 * @param {string | undefined} model
 * @returns {Promise<MmduetError | null>}
 */
export async function explainRejection(server, credential, model) {
  try {
    return (await credentialError(server, credential, model)) ?? (await capacityError(server, credential));
  } catch (error) {
    const { origin } = httpUrl(server, "");
    if (await isReachable(server)) {
      const own = globalThis.location?.origin;
      return new MmduetError("forbidden_origin", `${origin} does not allow pages of ${own}; add it to allowed_origins`, { cause: error });
    }
    return new MmduetError("server", `${origin} cannot be reached; is a server running there?`, { cause: error });
  }
}

/**
 * Return the server's error about a credential or a model, or null.
 * @param {string | URL} server
 * @param {string | null} credential
 * @param {string | undefined} [model]
 * @returns {Promise<MmduetError | null>}
 */
export async function credentialError(server, credential, model) {
  const path = model === undefined ? "v1/models" : `v1/models/${encodeURIComponent(model)}`;
  const response = await request("GET", httpUrl(server, path), credential);
  if (response.ok) return null;
  const error = await responseError(response);
  if (response.status !== 401) return error;
  const { origin } = httpUrl(server, "");
  const reason = credential === null ? "requires a key and none was passed; pass key or clientSecret" : "does not accept the key";
  return new MmduetError("unauthorized", `${origin} ${reason} (${error.message})`);
}

/**
 * @param {string | URL} server
 * @param {string | null} credential
 */
async function capacityError(server, credential) {
  const { origin } = httpUrl(server, "");
  const ready = await request("GET", httpUrl(server, "ready"), null);
  if (ready.status === 503) {
    const { status } = await ready.json();
    return new MmduetError("no_capacity", `${origin} opens no further session (${status}); try again later or pass waitSeconds`);
  }
  const sessions = await request("GET", httpUrl(server, "v1/sessions"), credential);
  if (sessions.headers.get("x-ratelimit-remaining-sessions") !== "0") return null;
  return new MmduetError("rate_limit_exceeded", `${origin} opens no further session for this key; close another one or pass waitSeconds`);
}

/**
 * Return whether the server answers at all, also to a page whose origin it does not allow.
 * @param {string | URL} server
 */
async function isReachable(server) {
  try {
    await fetch(httpUrl(server, "health"), { mode: "no-cors", credentials: "omit", signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

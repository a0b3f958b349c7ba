// @ts-check
/** Completes and checks the address of a server. */

import { MmduetError } from "./errors.js";

/** @type {Record<string, "ws:" | "wss:">} */
const SCHEMES = { "ws:": "ws:", "wss:": "wss:", "http:": "ws:", "https:": "wss:" };

/**
 * Return the address of the WebSocket endpoint for an address that may lack the end of the path. Relative addresses are
 * resolved against the page. Throws `MmduetError` with the code `bad_option`.
 * @param {string | URL} server `ws`, `wss`, `http` or `https`
 * @returns {URL}
 */
export function realtimeUrl(server) {
  const url = parse(server);
  const scheme = SCHEMES[url.protocol];
  if (scheme === undefined || url.hostname === "") throw invalid(server, "use ws://HOST:PORT, or wss:// over TLS");
  if (url.username !== "" || url.password !== "") throw invalid(server, "leave out the user and password; pass a key instead");
  url.protocol = scheme;
  url.pathname = completePath(url.pathname);
  url.search = url.hash = "";
  return url;
}

/**
 * Return the address of the endpoint `path` of a server over HTTP.
 * @param {string | URL} server as for `realtimeUrl`
 * @param {string} path below the server's root, as `v1/models`
 * @returns {URL}
 */
export function httpUrl(server, path) {
  const url = realtimeUrl(server);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  url.pathname = url.pathname.replace(/v1\/realtime$|realtime$/, "") + path;
  return url;
}

/** @param {string | URL} server */
function parse(server) {
  const text = String(server).trim();
  if (/^[\w.-]+:\d+(\/|$)/.test(text)) throw invalid(server, `use ws://${text}, or wss:// over TLS`);
  try {
    return new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw invalid(server, "use ws://HOST:PORT, or wss:// over TLS");
  }
}

/** @param {string} path */
function completePath(path) {
  const trimmed = path.replace(/\/+$/, "");
  if (trimmed.endsWith("/v1/realtime")) return trimmed;
  return trimmed.endsWith("/v1") ? `${trimmed}/realtime` : `${trimmed}/v1/realtime`;
}

/**
 * @param {string | URL} server
 * @param {string} advice
 */
function invalid(server, advice) {
  const shown = String(server).replace(/\/\/[^/@]*@/, "//***@").slice(0, 120);
  return new MmduetError("bad_option", `server "${shown}" is not a valid address; ${advice}`);
}

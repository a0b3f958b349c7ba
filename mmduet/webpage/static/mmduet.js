// @ts-check
/**
 * Browser client of an mmduet server. It needs no build step and no other package: copy this file and the folder `mmduet`
 * beside it, or import it from a server with the live page, as `https://HOST/page/static/mmduet.js`. See docs/browser.md.
 */

import { realtimeUrl } from "./mmduet/address.js";
import { MmduetError } from "./mmduet/errors.js";
import { Session } from "./mmduet/session.js";

export { ClientSecret } from "./mmduet/client_secret.js";
export { MmduetError } from "./mmduet/errors.js";
export { FramePump, streamFrom } from "./mmduet/frame_pump.js";
export { Session } from "./mmduet/session.js";

/** @typedef {import("./mmduet/session.js").ConnectOptions} ConnectOptions */
/** @typedef {import("./mmduet/session.js").SessionObject} SessionObject */
/** @typedef {import("./mmduet/reconnection.js").ConnectionChange} ConnectionChange */
/** @typedef {import("./mmduet/frame_counts.js").FrameCounts} FrameCounts */
/** @typedef {import("./mmduet/event_stream.js").ServerEvent} ServerEvent */
/** @typedef {import("./mmduet/frame_pump.js").PumpOptions} PumpOptions */
/** @typedef {import("./mmduet/frame_pump.js").PushedFrame} PushedFrame */

const MAX_WAIT_SECONDS = 3600;

/**
 * Open a session at a server. Rejects with `MmduetError`: code `unauthorized` for a wrong key, `forbidden_origin` for a page that
 * the server does not allow, `no_capacity` or `capacity` if it is full, `rate_limit_exceeded` if the key may open no further session,
 * `server` if it cannot be reached. If `signal` is aborted, it rejects with the signal's reason.
 * @param {string | URL} server address of the server or of its endpoint `/v1/realtime`: `ws`, `wss`, `http` or `https`, or relative to the page
 * @param {ConnectOptions} [options]
 * @returns {Promise<Session>}
 */
export async function connect(server, options = {}) {
  realtimeUrl(server); // checks the address
  const { key, clientSecret, waitSeconds = 0, signal } = options;
  if (key && clientSecret) throw new MmduetError("bad_option", "pass either key or clientSecret, not both");
  if (!(waitSeconds >= 0 && waitSeconds <= MAX_WAIT_SECONDS)) {
    throw new MmduetError("bad_option", `waitSeconds must be from 0 to ${MAX_WAIT_SECONDS}, got ${waitSeconds}`);
  }
  const session = new Session(server, options);
  try {
    return await session.open(signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

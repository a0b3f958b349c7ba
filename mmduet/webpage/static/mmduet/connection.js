// @ts-check
/** One WebSocket from its handshake to its loss. */

import { MmduetError } from "./errors.js";
import { after } from "./timers.js";

const CONNECT_SECONDS = 10;
const SUBPROTOCOL = "realtime";
const KEY_SUBPROTOCOL = "mmduet.key.";
const ABANDONED = 4000; // close code after which the server keeps the session

/**
 * Why a connection was lost.
 * @typedef {object} Loss
 * @property {boolean} wasOpen whether the handshake had succeeded
 * @property {number} code of RFC 6455; 1006 without a closing handshake
 * @property {string} reason
 */

export class Connection {
  #socket;
  #handlers;
  #wasOpen = false;
  /** @type {((loss: Loss) => void) | null} null once the connection is lost */
  #resolve = null;
  /** @type {import("./timers.js").Cancel} */
  #cancelTimeout;

  /**
   * Connect. Throws `MmduetError` with the code `bad_option` for a credential or an address that the browser does not accept.
   * @param {URL} url
   * @param {string | null} credential
   * @param {{onOpen: () => void, onMessage: (text: string) => void}} handlers
   */
  constructor(url, credential, handlers) {
    this.#handlers = handlers;
    this.#socket = openSocket(url, credential);
    /** Resolves when the connection is lost. @type {Promise<Loss>} */
    this.lost = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#cancelTimeout = after(CONNECT_SECONDS, () => this.abandon(`no answer within ${CONNECT_SECONDS} s`));
    this.#socket.onopen = () => this.#onOpen();
    this.#socket.onmessage = ({ data }) => this.#handlers.onMessage(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason || this.#describe(code));
  }

  /** Bytes that the browser has not sent yet. */
  get bufferedAmount() {
    return this.#socket.bufferedAmount;
  }

  /** @param {string | Blob | Uint8Array} message */
  send(message) {
    this.#socket.send(/** @type {any} */ (message));
  }

  /** End the session: close with code 1000. */
  close() {
    this.#socket.close(1000);
    this.#end(1000, "closed");
  }

  /** Give this connection up, so that the session is resumed on another one. @param {string} reason */
  abandon(reason) {
    this.#socket.close(ABANDONED);
    this.#end(1006, reason);
  }

  #onOpen() {
    this.#wasOpen = true;
    this.#cancelTimeout();
    this.#handlers.onOpen();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    this.#cancelTimeout();
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#resolve?.({ wasOpen: this.#wasOpen, code, reason });
    this.#resolve = null;
  }

  /** @param {number} code */
  #describe(code) {
    if (!this.#wasOpen) return "the connection was not opened";
    return code === 1006 ? "the connection was interrupted" : `the server closed the connection with code ${code}`;
  }
}

/**
 * @param {URL} url
 * @param {string | null} credential
 */
function openSocket(url, credential) {
  try {
    return new WebSocket(url, credential === null ? [SUBPROTOCOL] : [SUBPROTOCOL, KEY_SUBPROTOCOL + credential]);
  } catch (cause) {
    const isName = /** @type {Error} */ (cause).name === "SyntaxError";
    const message = isName
      ? "the key has characters that browsers cannot send over a WebSocket; use ClientSecret.create with it"
      : `the browser does not connect to ${url.origin} from this page; a page loaded over https needs wss://`;
    throw new MmduetError("bad_option", message, { cause });
  }
}

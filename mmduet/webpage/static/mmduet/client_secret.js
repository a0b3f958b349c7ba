// @ts-check
/** A short-lived credential of this page, which renews itself. */

import { httpUrl } from "./address.js";
import { MmduetError, toMmduetError } from "./errors.js";
import { request, responseError } from "./http.js";
import { after } from "./timers.js";

const CREATE = "v1/realtime/client_secrets";
const RENEW = "v1/realtime/client_secrets/renew";
const RETRY_SECONDS = 5;
const MARGIN_SHARE = 0.25; // of the lifetime
const MAX_MARGIN_SECONDS = 10;
const CLOCK_TOLERANCE_MILLISECONDS = 2000; // the header `date` has whole seconds

/** @typedef {{value: string, expires_at: number}} SecretData `expires_at` is a Unix time in seconds */

/** A client secret. It is renewed at half of its lifetime until `stop` is called, at most for 24 hours. */
export class ClientSecret {
  #server;
  #data;
  #recreate;
  #lifetime = 0; // seconds
  #clockOffset = 0; // milliseconds by which the server's clock is ahead
  /** @type {Promise<void> | null} */
  #renewal = null;
  /** @type {import("./timers.js").Cancel} */
  #cancelTimer = () => {};
  #stopped = false;

  /**
   * Use `create` or `from`.
   * @param {string | URL} server
   * @param {SecretData} data
   * @param {boolean} recreate whether another secret may be created when this one cannot be renewed
   */
  constructor(server, data, recreate) {
    this.#server = server;
    this.#data = data;
    this.#recreate = recreate;
    this.#accept(data, null);
  }

  /**
   * Ask a server for a client secret. Throws `MmduetError`.
   * @param {string | URL} server its address, as for `connect`
   * @param {{key?: string | null}} [options] the API key, which is not kept; not needed on a server without keys
   * @returns {Promise<ClientSecret>}
   */
  static async create(server, { key = null } = {}) {
    const response = await post(server, CREATE, key || null);
    const secret = new ClientSecret(server, await response.json(), !key);
    secret.#accept(secret.#data, response);
    return secret;
  }

  /**
   * Return a secret that another endpoint has created, or that was saved with `JSON.stringify(secret)`.
   * @param {string | URL} server
   * @param {SecretData} data
   * @returns {ClientSecret}
   */
  static from(server, data) {
    if (typeof data?.value !== "string" || typeof data.expires_at !== "number") {
      throw new MmduetError("bad_option", "a client secret must have a `value` and `expires_at`; pass the server's answer");
    }
    return new ClientSecret(server, data, false);
  }

  /** The newest value, which may have expired. */
  get latest() {
    return this.#data.value;
  }

  /** When the newest value expires, in milliseconds of `Date.now()`. */
  get expiresAt() {
    return this.#data.expires_at * 1000 - this.#clockOffset;
  }

  /** Return a valid value, after renewing it if necessary. Throws `MmduetError`. @returns {Promise<string>} */
  async value() {
    if (this.#remaining() > Math.min(this.#lifetime * MARGIN_SHARE, MAX_MARGIN_SECONDS)) return this.#data.value;
    try {
      await this.renewed();
    } catch (error) {
      if (this.#remaining() <= 0) throw error;
    }
    return this.#data.value;
  }

  /** Renew the secret now, and return it. Throws `MmduetError`. @returns {Promise<ClientSecret>} */
  async renewed() {
    this.#renewal ??= this.#renew().finally(() => {
      this.#renewal = null;
    });
    await this.#renewal;
    return this;
  }

  /** Stop renewing. */
  stop() {
    this.#stopped = true;
    this.#cancelTimer();
  }

  /** What `from` needs. @returns {SecretData} */
  toJSON() {
    return { ...this.#data };
  }

  async #renew() {
    const response = await this.#requestNext();
    this.#accept(await response.json(), response);
  }

  /** @returns {Promise<Response>} */
  async #requestNext() {
    try {
      return await post(this.#server, RENEW, this.#data.value);
    } catch (error) {
      if (!this.#recreate || toMmduetError(error).code !== "unauthorized") throw error;
      return post(this.#server, CREATE, null);
    }
  }

  /**
   * @param {SecretData} data
   * @param {Response | null} response from which the clock of the server is read, if the page may read it
   */
  #accept(data, response) {
    const { value, expires_at } = data;
    this.#data = { value, expires_at };
    const offset = Date.parse(response?.headers.get("date") ?? "") - Date.now();
    if (Number.isFinite(offset)) this.#clockOffset = Math.abs(offset) < CLOCK_TOLERANCE_MILLISECONDS ? 0 : offset;
    this.#lifetime = Math.max(this.#remaining(), 0);
    this.#schedule(this.#lifetime / 2);
  }

  #remaining() {
    return (this.expiresAt - Date.now()) / 1000;
  }

  /** @param {number} seconds */
  #schedule(seconds) {
    this.#cancelTimer();
    if (this.#stopped) return;
    this.#cancelTimer = after(Math.max(seconds, 1), () => {
      this.renewed().catch((error) => {
        const isFinal = toMmduetError(error).code === "unauthorized";
        if (!isFinal) this.#schedule(RETRY_SECONDS); // `value` reports the error if the secret is needed meanwhile
      });
    });
  }
}

/**
 * @param {string | URL} server
 * @param {string} path
 * @param {string | null} credential
 */
async function post(server, path, credential) {
  const response = await request("POST", httpUrl(server, path), credential);
  if (!response.ok) throw await responseError(response);
  return response;
}

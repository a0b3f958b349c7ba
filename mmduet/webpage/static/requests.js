// @ts-check
/** HTTP requests of the page, with this tab's client secret. Errors carry the server's message and code. */

import { SERVER } from "./access.js";
import { MmduetError, parseErrorBody } from "./mmduet/errors.js";

/** Sends requests as one visitor. */
export class Requests {
  /** @param {import("./mmduet.js").ClientSecret} secret */
  constructor(secret) {
    this.secret = secret;
  }

  /**
   * Send a request and return the JSON of its answer, or null if it has none. Throws ``MmduetError``.
   * @param {string} method
   * @param {string} path relative to the server's address
   * @param {any} [body] JSON
   * @param {{keepalive?: boolean, signal?: AbortSignal}} [options]
   * @returns {Promise<any>}
   */
  async send(method, path, body, options = {}) {
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${await this.secret.value()}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path, SERVER), { method, headers, body: body && JSON.stringify(body), ...options });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new MmduetError("server", "the server cannot be reached; check the connection and try again");
    }
    return readAnswer(response.status, await response.text());
  }

  /**
   * Upload a file and return the JSON of the answer. Throws ``MmduetError``, also when ``signal`` is aborted.
   * @param {string} path
   * @param {Blob} file
   * @param {(share: number) => void} onProgress called with the share that was sent
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async upload(path, file, onProgress, signal) {
    const value = await this.secret.value();
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch reports no progress of uploads
      request.open("POST", new URL(path, SERVER));
      request.setRequestHeader("Authorization", `Bearer ${value}`);
      request.upload.addEventListener("progress", (event) => onProgress(event.loaded / (event.total || 1)));
      request.addEventListener("load", () => {
        try {
          resolve(readAnswer(request.status, request.responseText));
        } catch (error) {
          reject(error);
        }
      });
      request.addEventListener("error", () => reject(new MmduetError("server", "the upload was interrupted; try again")));
      request.addEventListener("abort", () => reject(new MmduetError("aborted", "the upload was stopped")));
      signal?.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }
}

/**
 * Return the JSON of a successful answer. Throws ``MmduetError`` for any other.
 * @param {number} status
 * @param {string} text
 */
function readAnswer(status, text) {
  if (status < 200 || status >= 300) {
    throw parseErrorBody(text) ?? new MmduetError("server", `the server answered with status ${status}; is a proxy in between?`);
  }
  try {
    return text ? JSON.parse(text) : null;
  } catch (cause) {
    throw new MmduetError("server", "the server's answer is not JSON; is a proxy in between?", { cause });
  }
}

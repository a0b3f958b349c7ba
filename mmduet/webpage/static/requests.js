// @ts-check
/** HTTP requests of the page, with this tab's client secret. Errors carry the server's message and code. */

import { SERVER } from "./access.js";

/** An answer of the server that is not a success. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {string} code
   */
  constructor(message, code) {
    super(message);
    this.name = "RequestError";
    this.code = code;
  }
}

/** Sends requests as one visitor. */
export class Requests {
  /** @param {import("./mmduet.js").ClientSecret} secret */
  constructor(secret) {
    this.secret = secret;
  }

  /**
   * Send a request and return the JSON of its answer, or null if it has none. Throws ``RequestError``.
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
      throw new RequestError("the server cannot be reached; check the connection and try again", "unreachable");
    }
    return readAnswer(response.status, await response.text());
  }

  /**
   * Upload a file and return the JSON of the answer. Throws ``RequestError``, also when ``signal`` is aborted.
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
      request.addEventListener("error", () => reject(new RequestError("the upload was interrupted; try again", "unreachable")));
      request.addEventListener("abort", () => reject(new RequestError("the upload was stopped", "aborted")));
      signal?.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }
}

/**
 * Return the JSON of a successful answer. Throws ``RequestError`` for any other.
 * @param {number} status
 * @param {string} text
 */
function readAnswer(status, text) {
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new RequestError(`the server's answer is not JSON (status ${status}); is a proxy in between?`, "invalid_answer");
  }
  if (status >= 200 && status < 300) return body;
  const error = body?.error ?? {};
  throw new RequestError(error.message ?? `the server answered with status ${status}`, error.code ?? String(status));
}

// @ts-check
/** The error of the client. */

/**
 * Anything that went wrong. `code` is stable: one of the server's codes, or
 * `bad_option` (an argument is not valid), `unauthorized`, `forbidden_origin`, `no_capacity`, `rate_limit_exceeded`,
 * `server` (not reachable, or not an mmduet server), `connection_lost`, `session_closed`, `bad_source` (a picture that cannot be
 * read). `param` is the name of the setting that the server does not accept.
 */
export class MmduetError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{param?: string | null, cause?: unknown}} [details]
   */
  constructor(code, message, { param = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "MmduetError";
    this.code = code;
    this.param = param;
  }
}

/**
 * Return a thrown value as an error of this client.
 * @param {unknown} error
 * @returns {MmduetError}
 */
export function toMmduetError(error) {
  if (error instanceof MmduetError) return error;
  return new MmduetError("server", error instanceof Error ? error.message : String(error), { cause: error });
}

/**
 * Return the error in the body of an HTTP response, or null if the response does not come from an mmduet server.
 * @param {string} body
 * @returns {MmduetError | null}
 */
export function parseErrorBody(body) {
  try {
    const { code, message, param } = JSON.parse(body).error;
    return typeof code === "string" && typeof message === "string" ? new MmduetError(code, message, { param }) : null;
  } catch {
    return null;
  }
}

// @ts-check
/** Time and pauses of the attempts to reconnect, each of which is reported. */

const MIN_PAUSE_SECONDS = 0.1;
const MAX_PAUSE_SECONDS = 5;

/**
 * A change of the connection to the server.
 * @typedef {object} ConnectionChange
 * @property {"connected" | "retrying" | "resumed" | "gave_up"} state `retrying` when the connection is lost and after every
 *   attempt that fails, `resumed` when the session continues, `gave_up` when it cannot be continued
 * @property {number} seconds time since the connection was lost
 * @property {number | null} retrySeconds pause before the next attempt
 * @property {string} reason why the connection was lost or the last attempt failed; of `resumed`, why events are missing
 * @property {string | null} code of the error, of `gave_up`
 */

export class Reconnection {
  #report;
  /** @type {number | null} milliseconds; null while connected */
  #lostAt = null;
  #pause = MIN_PAUSE_SECONDS;

  /** @param {(change: ConnectionChange) => void} report */
  constructor(report) {
    this.#report = report;
  }

  /** Time since the connection was lost; 0 while connected. */
  get seconds() {
    return this.#lostAt === null ? 0 : (performance.now() - this.#lostAt) / 1000;
  }

  /** Report the first connection. */
  opened() {
    this.#lostAt = null;
    this.#emit({ state: "connected" });
  }

  /**
   * Return the pause before the next attempt in seconds, or null if `maxSeconds` since the loss do not suffice for it.
   * @param {string} reason
   * @param {number} maxSeconds
   */
  nextPause(reason, maxSeconds) {
    if (this.#lostAt === null) {
      this.#lostAt = performance.now();
      this.#pause = MIN_PAUSE_SECONDS;
    }
    const pause = this.#pause;
    if (this.seconds + pause > maxSeconds) return null;
    this.#pause = Math.min(2 * pause, MAX_PAUSE_SECONDS);
    this.#emit({ state: "retrying", retrySeconds: pause, reason });
    return pause;
  }

  /** Report that the session continues. @param {string} [reason] why events are missing */
  resumed(reason = "") {
    const seconds = this.seconds;
    this.#lostAt = null;
    this.#emit({ state: "resumed", seconds, reason });
  }

  /** Report that the session cannot be continued. @param {import("./errors.js").MmduetError} error */
  gaveUp(error) {
    this.#emit({ state: "gave_up", reason: error.message, code: error.code });
  }

  /** @param {Partial<ConnectionChange> & Pick<ConnectionChange, "state">} change */
  #emit(change) {
    this.#report({ seconds: this.seconds, retrySeconds: null, reason: "", code: null, ...change });
  }
}

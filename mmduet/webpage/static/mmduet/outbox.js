// @ts-check
/** Keeps the messages of a client until the server has confirmed that it has consumed them. */

/**
 * @typedef {object} Entry
 * @property {string | Blob | Uint8Array} message
 * @property {{seq: number, time: number, at: number} | null} frame of a frame: its number, its time in seconds, and when it
 *   was queued, in milliseconds of `performance.now()`
 */

/** Messages in order, with the indices by which the server counts them. */
export class Outbox {
  /** @type {Entry[]} */
  #entries = [];
  #first = 0; // index of the oldest message in the outbox
  #sent = 0; // how many of the entries have been sent
  #queuedFrames = 0;

  /** Number of frames that have not been sent. */
  get queuedFrames() {
    return this.#queuedFrames;
  }

  /** Number of messages that have been sent and are not confirmed. */
  get unconfirmed() {
    return this.#sent;
  }

  /** @param {Entry} entry */
  append(entry) {
    this.#entries.push(entry);
    if (entry.frame !== null) this.#queuedFrames++;
  }

  /** Add a message that is sent before the others. @param {Entry} entry */
  insertNext(entry) {
    this.#entries.splice(this.#sent, 0, entry);
    if (entry.frame !== null) this.#queuedFrames++;
  }

  /** Return the next message to send, or undefined. @returns {Entry | undefined} */
  peek() {
    return this.#entries[this.#sent];
  }

  /** Note that the next message is sent. Return its index. */
  markSent() {
    if (this.#entries[this.#sent].frame !== null) this.#queuedFrames--;
    return this.#first + this.#sent++;
  }

  /** Remove the oldest frame that has not been sent, and return it. @returns {Entry | undefined} */
  dropOldestFrame() {
    for (let index = this.#sent; index < this.#entries.length; index++) {
      if (this.#entries[index].frame === null) continue;
      this.#queuedFrames--;
      return this.#entries.splice(index, 1)[0];
    }
    return undefined;
  }

  /**
   * Remove every message up to an index, which the server has consumed.
   * @param {number} lastConsumed
   */
  acknowledge(lastConsumed) {
    const count = Math.min(Math.max(lastConsumed + 1 - this.#first, 0), this.#sent);
    this.#entries.splice(0, count);
    this.#first += count;
    this.#sent -= count;
  }

  /**
   * Continue on a new connection with the message after an index. Return the frames that are to be sent again.
   * @param {number} lastConsumed
   * @returns {number[]} their numbers
   */
  rewind(lastConsumed) {
    this.acknowledge(lastConsumed);
    const again = this.#entries.slice(0, this.#sent).flatMap(({ frame }) => (frame === null ? [] : [frame.seq]));
    this.#queuedFrames += again.length;
    this.#sent = 0;
    return again;
  }

  clear() {
    this.#entries = [];
    this.#sent = this.#queuedFrames = 0;
  }
}

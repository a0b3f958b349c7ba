// @ts-check
/** An asynchronous iterator over events, which keeps those that have not been read. */

/** @typedef {{type: string} & Record<string, any>} ServerEvent an event of the protocol, see docs/protocol.md */

/** @implements {AsyncIterableIterator<ServerEvent>} */
export class EventStream {
  #onReturn;
  /** @type {ServerEvent[]} */
  #events = [];
  /** @type {{resolve: (result: IteratorResult<ServerEvent, undefined>) => void, reject: (error: unknown) => void}[]} */
  #readers = [];
  #ended = false;
  /** @type {Error | null} */
  #error = null;

  /** @param {() => void} onReturn called when the reader stops early */
  constructor(onReturn) {
    this.#onReturn = onReturn;
  }

  /** @param {ServerEvent} event */
  add(event) {
    const reader = this.#readers.shift();
    if (reader === undefined) this.#events.push(event);
    else reader.resolve({ value: event, done: false });
  }

  /** End after the events so far, with an error if there is one. @param {Error | null} error */
  end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const reader of this.#readers.splice(0)) this.#finish(reader);
  }

  /** @returns {Promise<IteratorResult<ServerEvent, undefined>>} */
  next() {
    return new Promise((resolve, reject) => {
      const event = this.#events.shift();
      if (event !== undefined) resolve({ value: event, done: false });
      else if (this.#ended) this.#finish({ resolve, reject });
      else this.#readers.push({ resolve, reject });
    });
  }

  /** @returns {Promise<IteratorResult<ServerEvent, undefined>>} */
  async return() {
    this.#events = [];
    this.end(null);
    this.#onReturn();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {{resolve: (result: IteratorResult<ServerEvent, undefined>) => void, reject: (error: unknown) => void}} reader */
  #finish({ resolve, reject }) {
    const error = this.#error;
    this.#error = null; // reported once
    if (error === null) resolve({ value: undefined, done: true });
    else reject(error);
  }
}

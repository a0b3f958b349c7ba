// @ts-check
/** Sends the newest value only: while one is being sent, later ones replace each other. */

/** @template Value */
export class LatestUpdate {
  /** @param {(value: Value) => Promise<unknown>} send @param {(busy: boolean) => void} [onBusy] */
  constructor(send, onBusy = () => {}) {
    this.send = send;
    this.onBusy = onBusy;
    this.busy = false;
    /** @type {{value: Value} | null} */
    this.next = null;
  }

  /** @param {Value} value */
  async push(value) {
    this.next = { value };
    if (this.busy) return;
    this.busy = true;
    this.onBusy(true);
    try {
      while (this.next !== null) {
        const sending = this.next.value;
        this.next = null;
        await this.send(sending);
      }
    } finally {
      this.busy = false;
      this.onBusy(false);
    }
  }
}

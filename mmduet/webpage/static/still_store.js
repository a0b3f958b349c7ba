// @ts-check
/** Pictures of past moments in bounded memory, to show a moment again. */

/**
 * @template Picture
 */
export class StillStore {
  /**
   * @param {number} capacity
   * @param {(picture: Picture) => void} release called with every picture that is removed
   */
  constructor(capacity, release = () => {}) {
    this.capacity = capacity;
    this.release = release;
    /** @type {Array<{time: number, picture: Picture}>} in the order of their times */
    this.entries = [];
  }

  /** @param {number} time @param {Picture} picture */
  add(time, picture) {
    const entries = this.entries;
    let index = entries.length;
    while (index > 0 && entries[index - 1].time > time) index--;
    entries.splice(index, 0, { time, picture });
    if (entries.length > this.capacity) this.release(entries.splice(0, 1)[0].picture);
  }

  /** Return the newest entry that is not after a time, or null. @param {number} time */
  newestUntil(time) {
    for (let index = this.entries.length - 1; index >= 0; index--) {
      if (this.entries[index].time <= time + 1e-6) return this.entries[index];
    }
    return null;
  }

  /** Return the entry closest to a time, or null. @param {number} time */
  nearest(time) {
    let best = null;
    for (const entry of this.entries) {
      if (best === null || Math.abs(entry.time - time) < Math.abs(best.time - time)) best = entry;
    }
    return best;
  }

  /** Remove what is before a time, except the newest of it. @param {number} time */
  removeBefore(time) {
    while (this.entries.length > 1 && this.entries[1].time <= time) this.release(this.entries.splice(0, 1)[0].picture);
  }

  clear() {
    for (const { picture } of this.entries.splice(0)) this.release(picture);
  }
}

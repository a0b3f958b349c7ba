// @ts-check
/** Percentiles of the newest values. */
export class RecentValues {
  /** @param {number} capacity */
  constructor(capacity = 500) {
    this.capacity = capacity;
    /** @type {number[]} */
    this.values = [];
    this.next = 0;
  }

  /** @param {number} value */
  add(value) {
    if (!Number.isFinite(value)) return;
    this.values[this.next] = value;
    this.next = (this.next + 1) % this.capacity;
  }

  /** Return the value below which this share of the values is, or null without values. @param {number} share */
  quantile(share) {
    if (this.values.length === 0) return null;
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  }

  clear() {
    this.values = [];
    this.next = 0;
  }
}

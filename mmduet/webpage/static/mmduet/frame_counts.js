// @ts-check
/** Counts the frames of a session by what became of them. */

/**
 * @typedef {object} FrameCounts
 * @property {number} sent frames sent over the connection
 * @property {number} dropped frames that were dropped by the client and not sent
 * @property {number} queued frames that wait to be sent
 * @property {number} pending frames that were sent and whose outcome is not known yet
 * @property {number} scored frames that the model has scored, including those of a source that the server reads
 * @property {number} droppedByServer frames that the server has dropped
 * @property {number} unreported frames whose outcome was lost with a connection
 */

export class FrameTracker {
  /** @type {Set<number>} sent, without an outcome, in order */
  #pending = new Set();
  #reportsEveryFrame = true;
  sent = 0;
  dropped = 0;
  scored = 0;
  droppedByServer = 0;
  unreported = 0;
  /** Time of the first frame that was sent, in seconds: the server selects frames relative to it. @type {number | null} */
  origin = null;

  get pending() {
    return this.#pending.size;
  }

  /**
   * @param {number} seq
   * @param {number} time
   */
  onSent(seq, time) {
    this.sent++;
    this.origin ??= time;
    if (this.#reportsEveryFrame) this.#pending.add(seq);
  }

  /** Note that frames did not arrive and will be sent again. @param {number[]} frames */
  onLost(frames) {
    this.sent -= frames.length;
    for (const seq of frames) this.#pending.delete(seq);
  }

  /** Note that events were lost: outcomes of the frames that were sent may be among them. */
  onEventsLost() {
    this.unreported += this.#pending.size;
    this.#pending.clear();
  }

  /** @param {boolean} reports whether the server reports the outcome of every frame */
  setReportsEveryFrame(reports) {
    this.#reportsEveryFrame = reports;
    if (!reports) this.#pending.clear();
  }

  /** @param {{type: string, seq: number}} event */
  onOutcome({ type, seq }) {
    if (type === "input_frame.scored") this.scored++;
    else this.droppedByServer++;
    if (!this.#pending.delete(seq)) return;
    for (const earlier of this.#pending) {
      if (earlier > seq) break;
      this.#pending.delete(earlier); // outcomes are sent in the order of the frames
      this.unreported++;
    }
  }

  /**
   * @param {number} queued
   * @returns {FrameCounts}
   */
  counts(queued) {
    const { sent, dropped, pending, scored, droppedByServer, unreported } = this;
    return { sent, dropped, queued, pending, scored, droppedByServer, unreported };
  }
}

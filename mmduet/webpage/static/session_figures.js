// @ts-check
/**
 * Latency and frame counts of a session.
 *
 * Frames that the browser captures are measured here, from the capture to the arrival of the event. Frames that the server
 * reads are measured by the server, from their arrival.
 */
import { RecentValues } from "./quantiles.js";

const MAX_CAPTURES = 512; // frames whose capture time is remembered

export class SessionFigures {
  constructor() {
    this.scored = 0;
    this.replies = 0;
    /** @type {Record<string, number>} */
    this.dropped = {};
    this.measuredHere = false;
    this.frameToScore = new RecentValues();
    this.frameToWord = new RecentValues();
    /** Capture times by seq. @type {Map<number, number>} */
    this.captures = new Map();
    /** Capture times of triggers by reply. @type {Map<string, number>} */
    this.triggers = new Map();
    /** Arrival of the newest scores in milliseconds. @type {number[]} */
    this.arrivals = [];
  }

  /** Frames scored per second over the last five seconds. @param {number} now milliseconds */
  rate(now) {
    const recent = this.arrivals.filter((time) => time > now - 5000);
    if (recent.length < 2) return 0;
    return (1000 * (recent.length - 1)) / (recent[recent.length - 1] - recent[0] || 1);
  }

  /** @param {{seq: number, at: number}} capture `at` in milliseconds */
  addCapture({ seq, at }) {
    this.measuredHere = true;
    this.captures.set(seq, at);
    if (this.captures.size > MAX_CAPTURES) this.captures.delete(this.captures.keys().next().value ?? -1);
  }

  /**
   * Count an event of the server.
   * @param {Record<string, any>} event
   * @param {number} now milliseconds
   */
  addEvent(event, now) {
    if (event.type === "input_frame.scored") this.#addScored(event, now);
    else if (event.type === "input_frame.dropped") this.dropped[event.reason] = (this.dropped[event.reason] ?? 0) + 1;
    else if (event.type === "response.created") this.#addTrigger(event.response);
    else if (event.type === "response.output_text.delta") this.#addFirstWord(event.response_id, now);
    else if (event.type === "response.done") this.#addReply(event.response);
  }

  /** @param {any} event @param {number} now */
  #addScored({ seq, age_ms: age }, now) {
    this.scored++;
    this.arrivals.push(now);
    if (this.arrivals.length > 512) this.arrivals.splice(0, 256);
    const captured = this.captures.get(seq);
    this.frameToScore.add(captured === undefined ? age : now - captured);
  }

  /** @param {any} response */
  #addTrigger({ id, duet }) {
    const captured = this.captures.get(duet?.trigger_seq ?? -1);
    if (captured !== undefined && !duet.forced) this.triggers.set(id, captured);
  }

  /** @param {string} id @param {number} now */
  #addFirstWord(id, now) {
    const captured = this.triggers.get(id);
    if (captured === undefined) return;
    this.frameToWord.add(now - captured);
    this.triggers.delete(id);
  }

  /** @param {any} response */
  #addReply({ id, duet }) {
    this.replies++;
    this.triggers.delete(id);
    const first = duet?.timing?.first_delta_ms;
    if (!this.measuredHere && !duet?.forced && typeof first === "number") this.frameToWord.add(first);
  }
}

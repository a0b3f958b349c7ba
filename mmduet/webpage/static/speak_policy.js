// @ts-check
/**
 * The speak policy as the page displays it: which value is compared with which threshold.
 *
 * @typedef {object} SpeakSettings as in `duet.speak` of a session
 * @property {"threshold" | "sum" | "never"} policy
 * @property {number} value
 * @property {string[]} heads
 */

import { formatScore } from "./format.js";

/** @type {SpeakSettings} */
export const DEFAULT_POLICY = { policy: "threshold", value: 0.5, heads: ["informative"] };

/** Follows the policy of a session from frame to frame. */
export class DecisionScore {
  constructor() {
    this.settings = DEFAULT_POLICY;
    this.sum = 0;
  }

  /** The value that the score must exceed, or null if the model never speaks without being asked. */
  get threshold() {
    return this.settings.policy === "never" ? null : this.settings.value;
  }

  /** @param {Partial<SpeakSettings>} settings */
  update(settings) {
    if (settings.policy !== undefined && settings.policy !== this.settings.policy) this.sum = 0;
    this.settings = { ...this.settings, ...settings };
  }

  /**
   * Return what the policy compares with the threshold for this frame, or null without scores.
   * @param {{informative: number | null, relevance: number | null, decision: string}} scores
   */
  add(scores) {
    const values = this.settings.heads.map((head) => (head === "relevance" ? scores.relevance : scores.informative));
    if (values.some((value) => value === null || value === undefined)) return null;
    const score = /** @type {number[]} */ (values).reduce((sum, value) => sum + value, 0);
    if (this.settings.policy !== "sum") return score;
    const sum = this.sum + score;
    this.sum = scores.decision === "speak" ? 0 : sum;
    return sum;
  }

  reset() {
    this.sum = 0;
  }
}

/**
 * Return what is compared, in words: "informative", "informative + relevance", "sum of informative".
 * @param {SpeakSettings} settings
 */
export function describeScore(settings) {
  const heads = settings.heads.join(" + ");
  return settings.policy === "sum" ? `sum of ${heads}` : heads;
}

/**
 * Return the comparison that made the model speak. Without the threshold if the score is not above it: it was changed since the
 * server's decision, or the model speaks once more at the end.
 * @param {string} name of the score @param {number | null} score @param {number | null} threshold
 */
export function describeComparison(name, score, threshold) {
  if (score === null) return "";
  if (threshold === null || score <= threshold) return `${name} ${formatScore(score)}`;
  return `${name} ${formatScore(score)} > ${formatScore(threshold)}`;
}

// @ts-check
/**
 * Scores of a session over time in bounded memory: the newest frames one by one, older ones as minimum and maximum.
 *
 * @typedef {object} ScorePoint
 * @property {number} time seconds
 * @property {number | null} informative
 * @property {number | null} relevance
 * @property {number | null} score what the speak policy compares with the threshold
 * @property {number | null} threshold that of the moment; null without one
 * @property {boolean} spoke
 *
 * @typedef {object} ScoreBucket a time interval with the extremes of its frames
 * @property {number} from
 * @property {number} to
 * @property {number} count frames
 * @property {Extremes} informative
 * @property {Extremes} relevance
 * @property {Extremes} score
 * @property {number | null} threshold
 *
 * @typedef {[number, number] | null} Extremes minimum and maximum
 * @typedef {"informative" | "relevance" | "score"} Series
 */

/** @type {readonly Series[]} */
export const SERIES = ["informative", "relevance", "score"];
const BLOCK = 8; // frames that become a bucket or part of one

/** Scores in the order of their times. */
export class ScoreHistory {
  /**
   * @param {number} maxPoints frames that are kept one by one
   * @param {number} maxBuckets intervals of older frames
   */
  constructor(maxPoints = 2400, maxBuckets = 1200) {
    this.maxPoints = maxPoints;
    this.maxBuckets = maxBuckets;
    /** @type {ScorePoint[]} */
    this.points = [];
    /** @type {ScoreBucket[]} */
    this.buckets = [];
    this.bucketFrames = BLOCK; // frames of a full bucket; doubled whenever there are too many buckets
  }

  /** Time of the first frame, or null. */
  get start() {
    return this.buckets[0]?.from ?? this.points[0]?.time ?? null;
  }

  /** Time of the last frame, or null. */
  get end() {
    return this.points.at(-1)?.time ?? null;
  }

  /** Number of values in memory. */
  get size() {
    return this.points.length + this.buckets.length;
  }

  /** @param {ScorePoint} point */
  add(point) {
    this.points.push(point);
    if (this.points.length >= this.maxPoints + 32 * BLOCK) this.#summarize(32 * BLOCK);
  }

  clear() {
    this.points = [];
    this.buckets = [];
    this.bucketFrames = BLOCK;
  }

  /**
   * Return the point closest to a time, or null; older frames have no points.
   * @param {number} time
   */
  nearest(time) {
    const index = this.indexAt(time);
    return index < 0 ? null : this.points[index];
  }

  /**
   * Return the index of the point closest to a time, or -1.
   * @param {number} time
   */
  indexAt(time) {
    const points = this.points;
    if (points.length === 0) return -1;
    let low = 0;
    let high = points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle].time < time) low = middle + 1;
      else high = middle;
    }
    if (low > 0 && time - points[low - 1].time <= points[low].time - time) return low - 1;
    return low;
  }

  /**
   * Return the vertices of a series between two times, with one on either side, so that lines reach the edge.
   * @param {Series} series
   * @param {number} from
   * @param {number} to
   * @returns {Array<[number, number | null]>} time and value; null interrupts the line
   */
  vertices(series, from, to) {
    /** @type {Array<[number, number | null]>} */
    const found = [];
    for (const bucket of this.buckets) {
      if (bucket.to < from || bucket.from > to) continue;
      const extremes = bucket[series];
      found.push([bucket.from, extremes && extremes[1]], [bucket.to, extremes && extremes[0]]);
    }
    const first = Math.max(0, this.indexAt(from) - 1);
    for (let index = first; index < this.points.length; index++) {
      const point = this.points[index];
      found.push([point.time, point[series]]);
      if (point.time > to) break;
    }
    return found;
  }

  /**
   * Return the largest value of a series between two times, or 0.
   * @param {Series} series
   * @param {number} from
   * @param {number} to
   */
  maximum(series, from, to) {
    let largest = 0;
    for (const [time, value] of this.vertices(series, from, to)) {
      if (time >= from && time <= to && value !== null && value > largest) largest = value;
    }
    return largest;
  }

  /** @param {number} count number of the oldest points that become buckets */
  #summarize(count) {
    const oldest = this.points.splice(0, count);
    for (let index = 0; index < oldest.length; index += BLOCK) {
      this.#addBucket(toBucket(oldest.slice(index, index + BLOCK)));
    }
    if (this.buckets.length <= this.maxBuckets) return;
    this.buckets = mergePairs(this.buckets);
    this.bucketFrames *= 2;
  }

  /** @param {ScoreBucket} bucket */
  #addBucket(bucket) {
    const last = this.buckets.at(-1);
    if (last === undefined || last.count >= this.bucketFrames) this.buckets.push(bucket);
    else this.buckets[this.buckets.length - 1] = mergeBuckets(last, bucket);
  }
}

/**
 * @param {ScorePoint[]} points
 * @returns {ScoreBucket}
 */
function toBucket(points) {
  const last = points[points.length - 1];
  const bucket = { from: points[0].time, to: last.time, count: points.length, threshold: last.threshold };
  const extremes = Object.fromEntries(SERIES.map((name) => [name, extremesOf(points.map((point) => point[name]))]));
  return /** @type {ScoreBucket} */ ({ ...bucket, ...extremes });
}

/**
 * @param {ScoreBucket[]} buckets
 * @returns {ScoreBucket[]}
 */
function mergePairs(buckets) {
  const merged = [];
  for (let index = 0; index < buckets.length; index += 2) {
    const [first, second] = [buckets[index], buckets[index + 1]];
    merged.push(second === undefined ? first : mergeBuckets(first, second));
  }
  return merged;
}

/**
 * @param {ScoreBucket} first
 * @param {ScoreBucket} second
 */
function mergeBuckets(first, second) {
  const extremes = Object.fromEntries(
    SERIES.map((name) => [name, extremesOf([...(first[name] ?? []), ...(second[name] ?? [])])]),
  );
  const range = { from: first.from, to: second.to, count: first.count + second.count, threshold: second.threshold };
  return /** @type {ScoreBucket} */ ({ ...range, ...extremes });
}

/**
 * @param {Array<number | null>} values
 * @returns {Extremes}
 */
function extremesOf(values) {
  const numbers = /** @type {number[]} */ (values.filter((value) => value !== null));
  return numbers.length === 0 ? null : [Math.min(...numbers), Math.max(...numbers)];
}

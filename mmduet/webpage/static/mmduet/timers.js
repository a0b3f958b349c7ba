// @ts-check
/**
 * Timers that a hidden tab does not slow down. Browsers let the timers of a hidden page run once per second or once per minute,
 * but not those of a worker. All timers share one worker, which exists only while a timer runs. Where a content security
 * policy does not allow it (`worker-src blob:`), the page's own timers are used.
 */

const WORKER = `
const timers = new Map();
onmessage = ({ data: [id, milliseconds] }) => {
  clearInterval(timers.get(id));
  timers.delete(id);
  if (milliseconds !== null) timers.set(id, setInterval(() => postMessage(id), milliseconds));
};`;

/** @typedef {{milliseconds: number, callback: () => void, local?: ReturnType<typeof setInterval>}} Timer */
/** @typedef {() => void} Cancel stops a timer */

/** @type {Map<number, Timer>} */
const timers = new Map();
/** @type {Worker | null} */
let worker = null;
let isWorkerAllowed = typeof Worker !== "undefined";
let lastId = 0;

/**
 * Call a function periodically.
 * @param {number} seconds
 * @param {() => void} callback
 * @returns {Cancel}
 */
export function every(seconds, callback) {
  const id = ++lastId;
  const timer = { milliseconds: Math.max(1, seconds * 1000), callback };
  timers.set(id, timer);
  start(id, timer);
  return () => stop(id);
}

/**
 * Call a function once.
 * @param {number} seconds
 * @param {() => void} callback
 * @returns {Cancel}
 */
export function after(seconds, callback) {
  const cancel = every(seconds, () => {
    cancel();
    callback();
  });
  return cancel;
}

/** Return the number of running timers. */
export function timerCount() {
  return timers.size;
}

/**
 * @param {number} id
 * @param {Timer} timer
 */
function start(id, timer) {
  openWorker();
  if (worker !== null) worker.postMessage([id, timer.milliseconds]);
  else timer.local = setInterval(timer.callback, timer.milliseconds);
}

/** @param {number} id */
function stop(id) {
  const timer = timers.get(id);
  if (timer === undefined) return;
  timers.delete(id);
  if (timer.local !== undefined) clearInterval(timer.local);
  else worker?.postMessage([id, null]);
  if (timers.size === 0) closeWorker();
}

function openWorker() {
  if (worker !== null || !isWorkerAllowed) return;
  const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
  try {
    worker = new Worker(url);
  } catch {
    isWorkerAllowed = false;
    return;
  } finally {
    URL.revokeObjectURL(url);
  }
  worker.onmessage = ({ data }) => timers.get(data)?.callback();
  worker.onerror = useLocalTimers;
}

function closeWorker() {
  worker?.terminate();
  worker = null;
}

/** Continue with the page's own timers: the worker was not allowed to start. */
function useLocalTimers() {
  isWorkerAllowed = false;
  closeWorker();
  for (const timer of timers.values()) timer.local ??= setInterval(timer.callback, timer.milliseconds);
}

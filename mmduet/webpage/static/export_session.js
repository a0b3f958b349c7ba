// @ts-check
/**
 * What a session exports: its event log as JSON lines, and the command line and Python code that do the same.
 *
 * @typedef {import("./live_session.js").LiveSource} LiveSource
 *
 * @typedef {object} SessionRecord
 * @property {LiveSource} source
 * @property {string} server WebSocket address
 * @property {string} model
 * @property {number | null} maxOutputTokens
 * @property {Record<string, any>} duet settings as the server has confirmed them
 * @property {Array<{text: string, time: number}>} queries
 */

const NOT_SETTINGS = new Set(["limits", "resume_token", "query", "ack", "scores", "thumbnails", "profile"]);
const TIMED = /@\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*$/;

/**
 * Return the log as JSON lines. The first line describes the export.
 * @param {import("./event_log.js").EventLog} log
 * @param {{page?: string, exportedAt?: string}} [about]
 */
export function toJsonLines(log, { page = "", exportedAt = new Date().toISOString() } = {}) {
  const header = { type: "export", version: 1, page, exported_at: exportedAt, events: log.events.length, omitted_events: log.omitted };
  return `${[header, ...log.events].map((event) => JSON.stringify(event)).join("\n")}\n`;
}

/**
 * Return a shell command, with comments about settings that have no option.
 * @param {SessionRecord} record
 */
export function toCommand(record) {
  const { source, duet } = record;
  const notes = notesOf(record);
  const words = ["mmduet", "run", videoOf(source)];
  const add = (/** @type {string} */ name, /** @type {any} */ value) => {
    const text = String(value);
    if (text.startsWith("-")) words.push(`${name}=${text}`);
    else words.push(name, text);
  };
  if (record.model && record.model !== "nano") add("--model", record.model);
  if (typeof duet.fps === "number") add("--fps", duet.fps);
  const speak = duet.speak ?? {};
  if (speak.policy) add("--speak", speak.policy === "never" ? "never" : `${speak.policy}:${speak.value}`);
  if (speak.heads?.length) add("--score-heads", speak.heads.join(","));
  if (typeof speak.min_interval === "number") add("--min-interval", speak.min_interval);
  if (duet.keep_replies) words.push("--keep-replies");
  if (duet.profile === "paper") add("--profile", "paper");
  if (duet.window !== undefined) add("--window", duet.window ?? "none");
  if (record.maxOutputTokens) add("--max-new-tokens", record.maxOutputTokens);
  for (const query of record.queries) add("--query", timedText(query));
  if (record.queries.length === 0) words.push("--no-query");
  if (isFile(source) && source.speed === 1) words.push("--realtime");
  return `${notes.map((note) => `# ${note}\n`).join("")}${wrap(words.map(quote))}\n`;
}

/**
 * Return a Python program that does the same at this server.
 * @param {SessionRecord} record
 */
export function toPython(record) {
  const duet = Object.fromEntries(Object.entries(record.duet).filter(([name]) => !NOT_SETTINGS.has(name)));
  const fps = typeof duet.fps === "number" ? duet.fps : 2;
  const turns = record.queries.map(({ text, time }) => `    Query(${literal(text)}, ${literal(roundTime(time))}),`);
  const tokens = record.maxOutputTokens ? `, max_output_tokens=${record.maxOutputTokens}` : "";
  return `import threading
from contextlib import closing

from mmduet.client import RemoteStream
from mmduet.events import Query, Reply
from mmduet.tasks.streaming import merge_by_time
from mmduet.video.open_source import open_source

turns = [
${turns.join("\n")}${turns.length ? "\n" : ""}]
duet = ${literal({ ...duet, fps: null }, 1)}


def send(stream: RemoteStream) -> None:
    """Send the frames and queries in the order of their times."""
    with closing(open_source(${literal(videoOf(record.source))})) as source:
        for item in merge_by_time(source.frames(${literal(fps)}), turns):
            stream.push(item)
    stream.end()


with RemoteStream(${literal(record.server)}, model=${literal(record.model)}${isFile(record.source) ? ", block_when_behind=True" : ""}) as stream:
    stream.update(duet=duet${tokens})
    threading.Thread(target=send, args=(stream,), daemon=True).start()
    for output in stream.outputs():
        if isinstance(output, Reply):
            print(f"{output.time:6.2f} s  {output.text}")
`;
}

/** Return the video as the command line names it. @param {LiveSource} source */
export function videoOf(source) {
  const name = (source.url ?? "").replace(/^[a-z]+:/, "");
  switch (source.kind) {
    case "camera": return "webcam";
    case "screen":
    case "playground": return "screen";
    case "clip": return `demo/clips/${name}.mp4`;
    case "upload": return (source.file ?? source.title ?? "video.mp4").replace(/^-/, "./-");
    default: return hideCredentials(source.url ?? "");
  }
}

/** @param {SessionRecord} record */
function notesOf({ source, duet }) {
  const notes = [];
  if (source.kind === "playground") notes.push("The playground exists in the browser only; this command processes the screen.");
  if (source.kind === "upload") notes.push("Run it in the folder of the video.");
  if (source.kind === "url" && videoOf(source) !== source.url) notes.push("Replace USER:PASSWORD.");
  if (source.transport === "udp") notes.push("The camera was read over UDP.");
  const speak = duet.speak ?? {};
  if (speak.repeat_window) notes.push(`Not available as an option: repeat_window ${speak.repeat_window} s.`);
  if (duet.adapter) notes.push(`Not available as an option: the server's adapter ${duet.adapter}.`);
  return notes.map((note) => note.replace(/[\r\n]+/g, " "));
}

/** @param {LiveSource} source */
function isFile(source) {
  return source.kind === "clip" || source.kind === "upload";
}

/** @param {string} url */
function hideCredentials(url) {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, "$1USER:PASSWORD@");
}

/** @param {{text: string, time: number}} query */
function timedText({ text, time }) {
  const seconds = roundTime(time);
  return seconds > 0 || TIMED.test(text) ? `${text}@${seconds}` : text;
}

/** @param {number} time */
function roundTime(time) {
  return Math.round(time * 100) / 100;
}

/** Quote a word for a POSIX shell. @param {string} word */
export function quote(word) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** @param {string[]} words quoted words; an option and its value stay on one line */
function wrap(words) {
  const lines = [[words[0], words[1], words[2]].join(" ")];
  for (let index = 3; index < words.length; index++) {
    const hasValue = index + 1 < words.length && !/^'?--/.test(words[index + 1]) && !words[index].includes("=");
    lines.push(hasValue ? `${words[index]} ${words[++index]}` : words[index]);
  }
  return lines.join(" \\\n  ");
}

/** Return a value as a Python literal. @param {any} value @param {number} [depth] @returns {string} */
function literal(value, depth = 0) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((each) => literal(each)).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const entries = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`);
  return depth === 0 ? `{${entries.join(", ")}}` : `{\n${entries.map((entry) => `    ${entry},`).join("\n")}\n}`;
}

// @ts-check
/** Encodes frames as binary messages: a header of 16 bytes, then the image. */

import { MmduetError } from "./errors.js";

const VERSION = 1;
const HEADER_BYTES = 16;
/** @type {Record<string, number>} */
const FORMATS = { "image/jpeg": 1, "image/png": 2, "image/webp": 3 };
const MAX_SEQ = 0xffffffff;

/**
 * Return the message for a frame. Throws `MmduetError` with the code `bad_option`.
 * @param {number} seq
 * @param {number} time seconds
 * @param {Blob | ArrayBuffer | ArrayBufferView<ArrayBuffer>} image JPEG, PNG or WebP
 * @returns {Blob | Uint8Array}
 */
export function packFrame(seq, time, image) {
  const microseconds = Math.round(time * 1e6);
  if (!Number.isSafeInteger(microseconds) || microseconds < 0) {
    throw new MmduetError("bad_option", `the time of a frame must be a number of seconds from 0 on, got ${time}`);
  }
  if (seq > MAX_SEQ) throw new MmduetError("bad_option", "the session has the maximum number of frames; open another session");
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  header.setUint8(0, VERSION);
  header.setUint8(1, image instanceof Blob ? formatOfBlob(image) : formatOfBytes(toBytes(image)));
  header.setUint32(4, seq, true);
  header.setBigUint64(8, BigInt(microseconds), true);
  if (image instanceof Blob) return new Blob([header, image]);
  const bytes = toBytes(image);
  const message = new Uint8Array(HEADER_BYTES + bytes.length);
  message.set(new Uint8Array(header.buffer));
  message.set(bytes, HEADER_BYTES);
  return message;
}

/**
 * Return the length of a message in bytes.
 * @param {string | Blob | Uint8Array} message
 */
export function messageBytes(message) {
  if (typeof message === "string") return new TextEncoder().encode(message).length;
  return message instanceof Blob ? message.size : message.length;
}

/** @param {ArrayBuffer | ArrayBufferView} image */
function toBytes(image) {
  if (image instanceof ArrayBuffer) return new Uint8Array(image);
  return new Uint8Array(image.buffer, image.byteOffset, image.byteLength);
}

/** @param {Blob} image */
function formatOfBlob(image) {
  const format = FORMATS[image.type];
  if (format !== undefined && image.size > 0) return format;
  throw invalidImage(`a Blob of type "${image.type}" with ${image.size} bytes`);
}

/** @param {Uint8Array} bytes */
function formatOfBytes(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return FORMATS["image/jpeg"];
  const text = String.fromCharCode(...bytes.subarray(0, 12));
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return FORMATS["image/png"];
  if (text.startsWith("RIFF") && text.endsWith("WEBP")) return FORMATS["image/webp"];
  throw invalidImage(`${bytes.length} other bytes`);
}

/** @param {string} found */
function invalidImage(found) {
  return new MmduetError("bad_option", `a frame must be a JPEG, PNG or WebP image, got ${found}; encode it as one of these`);
}

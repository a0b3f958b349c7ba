// @ts-check
/** What frames can be taken from: a video element, a canvas, or the stream of a camera or a screen. */

import { MmduetError } from "./errors.js";

const FRESH_MILLISECONDS = 250;

/**
 * @typedef {object} PictureSource
 * @property {CanvasImageSource} image
 * @property {() => {width: number, height: number} | null} size of the current picture in pixels; null without a picture
 * @property {() => number} time of the current picture on the clock of the media, in seconds
 * @property {() => void} release
 */

/**
 * Return the pictures of a source. Throws `MmduetError` with the code `bad_option` for anything else.
 * @param {HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | MediaStream} source
 * @param {() => void} onEnded called when a stream has ended
 * @returns {PictureSource}
 */
export function openPictureSource(source, onEnded) {
  if (source instanceof MediaStream) return streamPictures(source, onEnded);
  if (source instanceof HTMLVideoElement) return videoPictures(source);
  if (source instanceof HTMLCanvasElement || source instanceof OffscreenCanvas) return canvasPictures(source);
  throw new MmduetError("bad_option", "the source of frames must be a video element, a canvas or a MediaStream");
}

/**
 * A canvas has no clock of its own: its time is that since the begin.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @returns {PictureSource}
 */
function canvasPictures(canvas) {
  const start = performance.now();
  return {
    image: canvas,
    size: () => (canvas.width > 0 && canvas.height > 0 ? { width: canvas.width, height: canvas.height } : null),
    time: () => (performance.now() - start) / 1000,
    release: () => {},
  };
}

/**
 * @param {HTMLVideoElement} video
 * @returns {PictureSource}
 */
function videoPictures(video) {
  const { presentedTime, stop } = watchPresentedTime(video);
  return {
    image: video,
    size: () => (hasPicture(video) ? { width: video.videoWidth, height: video.videoHeight } : null),
    time: () => presentedTime() ?? video.currentTime,
    release: stop,
  };
}

/** @param {HTMLVideoElement} video */
function hasPicture(video) {
  return video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !video.seeking && video.videoWidth > 0;
}

/**
 * Watch the exact times of the pictures that a video shows. They are known only while the browser draws the page; the times of
 * streams have another origin than `currentTime` and are not used.
 * @param {HTMLVideoElement} video
 * @returns {{presentedTime: () => number | null, stop: () => void}}
 */
function watchPresentedTime(video) {
  /** @type {{time: number, at: number} | null} */
  let latest = null;
  let handle = 0;
  const onPicture = (/** @type {number} */ _, /** @type {VideoFrameCallbackMetadata} */ { mediaTime }) => {
    latest = { time: mediaTime, at: performance.now() };
    handle = video.requestVideoFrameCallback(onPicture);
  };
  if ("requestVideoFrameCallback" in video) handle = video.requestVideoFrameCallback(onPicture);
  return {
    presentedTime: () => {
      if (latest === null || video.srcObject !== null || performance.now() - latest.at > FRESH_MILLISECONDS) return null;
      return latest.time;
    },
    stop: () => {
      if ("cancelVideoFrameCallback" in video) video.cancelVideoFrameCallback(handle);
    },
  };
}

/**
 * @param {MediaStream} stream
 * @param {() => void} onEnded
 * @returns {PictureSource}
 */
function streamPictures(stream, onEnded) {
  const tracks = stream.getVideoTracks();
  if (tracks.length === 0) throw new MmduetError("bad_option", "the MediaStream has no video track; request one with video: true");
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.srcObject = new MediaStream(tracks); // without sound
  video.play().catch(() => {}); // size() stays null; a browser that allows no autoplay starts it with the next gesture
  const onTrackEnded = () => {
    if (tracks.every((track) => track.readyState === "ended")) onEnded();
  };
  for (const track of tracks) track.addEventListener("ended", onTrackEnded);
  const pictures = videoPictures(video);
  return {
    ...pictures,
    release: () => {
      pictures.release();
      for (const track of tracks) track.removeEventListener("ended", onTrackEnded);
      video.pause();
      video.srcObject = null;
    },
  };
}

// @ts-check
/** Opens the visitor's camera or a shared screen, and describes in plain words what prevents it. */
import { element } from "./elements.js";

/** A capture that cannot start; `code` is stable, the message states what to do. */
export class CaptureError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const NAMES = { camera: "camera", screen: "screen" };

/** @type {Record<string, (kind: "camera" | "screen") => [string, string]>} */
const REASONS = {
  NotAllowedError: (kind) => kind === "camera"
    ? ["camera_denied", "The browser was not allowed to use the camera. Allow it at the camera symbol beside the page's "
        + "address, then start again."]
    : ["screen_denied", "No screen or window was chosen. Start again and choose one to share."],
  NotFoundError: (kind) => [`no_${kind}`, `This device has no ${NAMES[kind]}. Connect one, or choose a clip or a video.`],
  OverconstrainedError: (kind) => [`no_${kind}`, `The chosen ${NAMES[kind]} is not connected any more. Choose another one.`],
  NotReadableError: (kind) => [`${kind}_busy`, `The ${NAMES[kind]} cannot be read; another program may be using it. Close that `
    + "program, then start again."],
};

/**
 * Open a camera or ask for a screen to share.
 * @param {"camera" | "screen"} kind
 * @param {{deviceId?: string, onEnded?: () => void}} [options] `onEnded` is called when the browser ends the capture
 * @returns {Promise<{video: HTMLVideoElement, stop: () => void}>}
 */
export async function openCapture(kind, { deviceId, onEnded = () => {} } = {}) {
  const media = navigator.mediaDevices;
  if (!isSecureContext || media === undefined) throw insecureContext(kind);
  if (kind === "screen" && media.getDisplayMedia === undefined) {
    throw new CaptureError("unsupported", "This browser cannot share a screen. Use a desktop browser, or choose a camera.");
  }
  let stream;
  try {
    stream = kind === "screen"
      ? await media.getDisplayMedia({ video: { frameRate: 15 }, audio: false })
      : await media.getUserMedia({ video: cameraConstraints(deviceId), audio: false });
  } catch (error) {
    throw toCaptureError(kind, /** @type {Error} */ (error));
  }
  const video = element("video", { muted: true, playsinline: true });
  video.srcObject = stream;
  for (const track of stream.getTracks()) track.addEventListener("ended", onEnded);
  const stop = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  try {
    await video.play();
  } catch (error) {
    stop();
    throw toCaptureError(kind, /** @type {Error} */ (error));
  }
  return { video, stop };
}

/** @param {string | undefined} deviceId */
function cameraConstraints(deviceId) {
  return { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 15 }, ...(deviceId ? { deviceId: { exact: deviceId } } : {}) };
}

/** @param {"camera" | "screen"} kind */
function insecureContext(kind) {
  return new CaptureError("insecure_context", `Browsers allow the ${NAMES[kind]} only on pages that were opened over HTTPS or from `
    + "localhost. Open this page in one of these ways; the server's settings tls_certificate and tls_key enable HTTPS.");
}

/** @param {"camera" | "screen"} kind @param {Error} error */
function toCaptureError(kind, error) {
  const reason = REASONS[error.name];
  if (reason === undefined) return new CaptureError("capture_failed", `The ${NAMES[kind]} could not be opened: ${error.message}`);
  return new CaptureError(...reason(kind));
}

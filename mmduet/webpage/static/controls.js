// @ts-check
/** Translates between the values of Gradio's controls and the settings of a session. */

const SPEAK = ["policy", "value", "heads", "min_interval", "repeat_window", "unasked"];
const FIXED = ["fps", "window", "keep_replies", "adapter"];

/** @typedef {Record<string, any>} Values values of the controls by name */

/**
 * Return the values of the controls by name.
 * @param {string[]} names
 * @param {any[]} values
 * @returns {Values}
 */
export function byName(names, values) {
  return Object.fromEntries(names.map((name, index) => [name, values[index]]));
}

/**
 * Return the settings of a running session, which can be changed at any time.
 * @param {Values} values
 */
export function speakSettings(values) {
  const speak = Object.fromEntries(SPEAK.filter((name) => name in values).map((name) => [name, values[name]]));
  if (speak.heads?.length === 0) delete speak.heads; // at least one head counts
  return { speak };
}

/**
 * Return the settings for the next session.
 * @param {Values} values
 */
export function sessionSettings(values) {
  const fixed = Object.fromEntries(FIXED.filter((name) => name in values && values[name] !== "").map((name) => [name, values[name]]));
  return { ...fixed, ...speakSettings(values) };
}

/**
 * Return the values of the controls after a preset was chosen: its query and the recommended settings with its changes.
 * @param {Values} values
 * @param {{query: string, speak: Record<string, any>}} preset
 * @param {Record<string, any>} recommended the server's speak settings
 * @returns {Values}
 */
export function withPreset(values, preset, recommended) {
  const speak = Object.fromEntries(SPEAK.map((name) => [name, preset.speak[name] ?? recommended[name]]));
  return { ...values, ...speak, query: preset.query };
}

/**
 * Return the values of the controls that show these settings of a session, for example after the threshold was dragged.
 * @param {{speak?: Record<string, any>} & Record<string, any>} duet
 * @returns {Values}
 */
export function changedControls(duet) {
  const all = { ...duet, ...duet.speak };
  return Object.fromEntries([...SPEAK, ...FIXED].filter((name) => name in all).map((name) => [name, all[name]]));
}

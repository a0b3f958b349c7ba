// @ts-check
/**
 * Colours of the components. They follow Gradio's custom properties where the page has them, and otherwise the page's own
 * text colour. The palette of the curve is that of Okabe and Ito, which colour-blind people can distinguish.
 */
import { styleSheet } from "./elements.js";

export const themeSheet = styleSheet(`
  :host {
    --text: var(--body-text-color, CanvasText);
    --muted: color-mix(in srgb, var(--text) 72%, transparent);
    --surface: var(--block-background-fill, Canvas);
    --sunken: color-mix(in srgb, var(--text) 5%, var(--surface));
    --line: color-mix(in srgb, var(--text) 18%, transparent);
    --strong-line: color-mix(in srgb, var(--text) 58%, transparent);
    --informative: #0067a5;
    --relevance: #a84300;
    --decision: #0f1419;
    --threshold: #8a1c5b;
    --good: #0a6b4f;
    --warn: #8a5200;
    --bad: #b3261e;
    --focus: #0067a5;
    --on-accent: #ffffff;
    color: var(--text);
    font: 14px/1.45 var(--font, system-ui, sans-serif);
    text-align: start;
    display: block;
    box-sizing: border-box;
  }
  :host([data-theme="dark"]) {
    --informative: #63b8f0;
    --relevance: #f0a35c;
    --decision: #f2f4f7;
    --threshold: #f09cc8;
    --good: #57c9a2;
    --warn: #e5b05a;
    --bad: #ff8f85;
    --focus: #63b8f0;
    --on-accent: #10151b;
  }
  :host([hidden]), [hidden] { display: none !important; }
  *, *::before, *::after { box-sizing: border-box; }
  h2, p, ol, ul, dl, dd, figure { margin: 0; padding: 0; }
  h2 { font-size: 13px; font-weight: 600; }
  small, .term { color: var(--muted); font-size: 12px; font-weight: 400; }
  .number { font-variant-numeric: tabular-nums; }
  button, select, input, textarea { font: inherit; color: inherit; }
  button, select {
    min-height: 32px; padding: 0 12px; border: 1px solid var(--strong-line); border-radius: 6px;
    background: var(--surface); cursor: pointer;
  }
  button:hover:not(:disabled) { background: var(--sunken); }
  button:disabled, select:disabled { cursor: default; color: var(--muted); border-color: var(--line); }
  button.primary { background: var(--informative); border-color: var(--informative); color: var(--on-accent); }
  button.primary:hover:not(:disabled) { background: color-mix(in srgb, var(--informative) 86%, var(--text)); }
  button.primary:disabled { background: var(--sunken); border-color: var(--line); color: var(--muted); }
  button.plain { border-color: transparent; background: none; padding: 0 4px; min-height: 24px; }
  :focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
  .visually-hidden {
    position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
  }
  @media (prefers-reduced-motion: no-preference) { button { transition: background-color 120ms; } }
  @media (pointer: coarse) { button, select { min-height: 40px; } }
`);

/**
 * Keep `data-theme` of an element at `dark` while its inherited text is light, however the page was made dark.
 * @param {HTMLElement} host
 * @param {() => void} [changed] called after a change
 * @returns {() => void} a function that stops it
 */
export function followTheme(host, changed = () => {}) {
  const apply = () => {
    const theme = isLight(getComputedStyle(host).color) ? "dark" : "light";
    if (host.dataset.theme === theme) return;
    host.dataset.theme = theme;
    changed();
  };
  const observer = new MutationObserver(apply);
  for (const target of [document.documentElement, document.body]) {
    observer.observe(target, { attributes: true, attributeFilter: ["class", "style", "data-theme"] });
  }
  const preference = matchMedia("(prefers-color-scheme: dark)");
  preference.addEventListener("change", apply);
  apply();
  return () => {
    observer.disconnect();
    preference.removeEventListener("change", apply);
  };
}

/**
 * Return whether a CSS colour as `rgb(…)` is light.
 * @param {string} colour
 */
function isLight(colour) {
  const numbers = (colour.match(/[\d.]+/g) ?? ["0", "0", "0"]).map(Number);
  const scale = colour.startsWith("color(") ? 255 : 1;
  return (0.299 * numbers[0] + 0.587 * numbers[1] + 0.114 * numbers[2]) * scale > 140;
}

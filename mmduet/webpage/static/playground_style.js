// @ts-check
/** Style of the playground. The page may set the custom properties; the defaults follow the visitor's colour scheme. */

export const STYLE = `
:host {
  --playground-text: light-dark(#1c2128, #e8ebf0);
  --playground-muted: light-dark(#4d5662, #aab3c0);
  --playground-raised: light-dark(#eef1f5, #2b323e);
  --playground-border: light-dark(#8a94a3, #6d7788);
  --playground-accent: light-dark(#1d4ed8, #93b4ff);
  color-scheme: light dark;
  color: var(--playground-text);
  display: block;
  font: 0.9375rem/1.4 system-ui, sans-serif;
}
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
.playground { display: grid; gap: 0.75rem; grid-template-columns: minmax(0, 1fr); max-width: 64rem; position: relative; }
.stage { aspect-ratio: 1; border-radius: 0.5rem; cursor: grab; justify-self: center; max-width: 32rem; overflow: hidden; position: relative;
  touch-action: none; user-select: none; -webkit-user-select: none; width: 100%; }
.stage.holding { cursor: grabbing; }
.stage canvas { display: block; height: 100%; inset: 0; position: absolute; width: 100%; }
.hint { background: rgb(20 23 29 / 0.72); border-radius: 1rem; bottom: 0.6rem; color: #f2f4f7; font-size: 0.875rem; left: 50%; margin: 0;
  max-width: calc(100% - 1.2rem); padding: 0.2rem 0.8rem; pointer-events: none; position: absolute; text-align: center;
  transform: translateX(-50%); width: max-content; }
.hint:empty { display: none; }
.controls { display: grid; align-content: start; gap: 0.6rem; }
@container (min-width: 44rem) {
  .playground { grid-template-columns: minmax(0, 1.3fr) minmax(16rem, 1fr); }
}
:host { container-type: inline-size; }
fieldset { border: 0; margin: 0; min-width: 0; padding: 0; }
legend { color: var(--playground-muted); font-size: 0.8125rem; padding: 0; }
.row { display: flex; flex-wrap: wrap; gap: 0.35rem; }
button, .choice span { background: var(--playground-raised); border: 1px solid var(--playground-border); border-radius: 0.4rem;
  color: inherit; cursor: pointer; font: inherit; min-height: 2.25rem; padding: 0.2rem 0.65rem; }
button:hover, .choice:hover span { border-color: var(--playground-accent); }
:focus-visible, .choice input:focus-visible + span { outline: 3px solid var(--playground-accent); outline-offset: 2px; }
button[aria-pressed="true"], .choice input:checked + span { border-color: var(--playground-accent);
  box-shadow: inset 0 0 0 2px var(--playground-accent); }
.chip { cursor: grab; padding: 0.2rem; touch-action: none; user-select: none; -webkit-user-select: none; width: 3rem; }
.chip, .swatch span { align-items: center; display: inline-flex; justify-content: center; }
.chip { background: #3a4150; height: 3rem; }
.chip svg, .ghost { pointer-events: none; }
.choice input { opacity: 0; position: absolute; }
.choice { position: relative; }
.choice span { display: inline-flex; align-items: center; }
.swatch span { padding: 0; width: 2.25rem; }
.swatch i { border: 1px solid var(--playground-border); border-radius: 50%; height: 1.4rem; width: 1.4rem; }
.swatch input:checked + span::after { content: "✓"; position: absolute; color: #14171d; font-weight: 700; text-shadow: 0 0 3px #fff, 0 0 3px #fff; }
.ghost { left: 0; overflow: visible; position: absolute; top: 0; z-index: 2; }
.status { color: var(--playground-muted); margin: 0; min-height: 1.4em; }
summary { cursor: pointer; }
kbd { background: var(--playground-raised); border: 1px solid var(--playground-border); border-radius: 0.25rem; font: inherit;
  font-size: 0.8125rem; padding: 0 0.3rem; }
dl { display: grid; gap: 0.15rem 0.6rem; grid-template-columns: max-content 1fr; margin: 0.4rem 0 0; }
dd { margin: 0; }
@media (forced-colors: active) { .swatch i { forced-color-adjust: none; } }
`;

// @ts-check
/** Styles of the wall. */
import { styleSheet } from "./elements.js";

export const wallSheet = styleSheet(`
  header { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-bottom: 12px; }
  header p { flex: 1 1 auto; }
  .grid { list-style: none; display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 220px), 1fr)); }
  .tile {
    border: 1px solid var(--line); border-radius: 8px; background: var(--surface); overflow: hidden; min-width: 0;
    display: flex; flex-direction: column;
  }
  .tile > *:not(.stage) { padding-left: 8px; padding-right: 8px; }
  .stage { position: relative; aspect-ratio: 16 / 9; background: #0b0d10; overflow: hidden; }
  .picture { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; display: block; }
  .head { display: flex; gap: 8px; align-items: baseline; padding-top: 6px; }
  .title { flex: 1 1 auto; min-width: 0; text-align: start; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 600;
    padding: 0; }
  .title:hover { text-decoration: underline; }
  .pill { font-size: 12px; white-space: nowrap; }
  .pill::before { content: "○"; margin-right: 4px; }
  [data-state="live"] .pill::before { content: "●"; color: var(--good); }
  [data-state="failed"] .pill::before { content: "✕"; color: var(--bad); }
  [data-state="ended"] .pill::before { content: "■"; }
  [data-state="retrying"] .pill::before { content: "↻"; color: var(--warn); }
  .words { min-height: 2.9em; font-size: 13px; padding-top: 4px; overflow-wrap: anywhere; white-space: pre-wrap; }
  .latency { font-size: 11px; color: var(--muted); padding-bottom: 8px; margin-top: auto; min-height: 24px; }
  .batch { margin-top: 16px; border: 1px solid var(--line); border-radius: 8px; padding: 12px; background: var(--surface); }
  .batch h2 { margin-bottom: 8px; }
  dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px 16px; }
  dt { font-size: 12px; font-weight: 600; }
  dd { font-size: 16px; font-variant-numeric: tabular-nums; }
  dd.term { font-size: 12px; line-height: 1.35; }
`);

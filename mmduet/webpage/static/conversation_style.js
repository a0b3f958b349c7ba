// @ts-check
/** Styles of the conversation. */
import { styleSheet } from "./elements.js";

export const conversationSheet = styleSheet(`
  :host { display: flex; flex-direction: column; min-height: 0; }
  .scroller { flex: 1 1 auto; min-height: 160px; overflow-y: auto; overscroll-behavior: contain; padding: 4px 12px; }
  .scroller:focus-visible { outline-offset: -2px; }
  .entries { list-style: none; }
  .empty, .omitted { color: var(--muted); font-size: 13px; padding: 8px 0; }
  li { display: grid; grid-template-columns: 50px minmax(0, 1fr); gap: 0 8px; padding: 8px 0; border-top: 1px solid var(--line); }
  li:first-child { border-top: 0; }
  li.note { display: block; color: var(--muted); font-size: 13px; padding-left: 58px; }
  .time { font-size: 12px; text-align: right; align-self: start; line-height: 20px; color: var(--muted); }
  button.time { min-height: 20px; text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: 3px; }
  button.time:hover { color: var(--text); }
  .author { font-size: 12px; font-weight: 600; line-height: 20px; }
  .author small { margin-left: 6px; }
  .text { overflow-wrap: anywhere; white-space: pre-wrap; }
  .turn .text { color: var(--text); }
  .turn > div { border-left: 2px solid var(--strong-line); padding-left: 8px; }
  .reply > div { border-left: 2px solid var(--threshold); padding-left: 8px; }
  .reply .text { font-size: 15px; }
  .why { font-size: 12px; color: var(--muted); margin-top: 2px; }
  .streaming .text::after { content: "▍"; color: var(--threshold); }
  li.selected { background: var(--sunken); box-shadow: 0 0 0 1px var(--line); border-radius: 4px; }
  form { flex: none; padding: 10px 12px 12px; border-top: 1px solid var(--line); }
  label { display: block; font-size: 12px; font-weight: 600; margin-bottom: 4px; }
  .row { display: flex; flex-wrap: wrap; gap: 8px; }
  input {
    flex: 1 1 180px; min-width: 0; min-height: 32px; padding: 0 10px; border: 1px solid var(--strong-line); border-radius: 6px;
    background: var(--surface);
  }
  input::placeholder { color: var(--muted); opacity: 1; }
  input:disabled { border-color: var(--line); background: var(--sunken); }
  @media (pointer: coarse) { input { min-height: 40px; font-size: 16px; } button.time { min-height: 32px; } }
`);

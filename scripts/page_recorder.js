/*
 * Records the latency of a page's session in the page itself. `measure_page.py` evaluates this function in the live page.
 *
 * Times are milliseconds of performance.now(). A frame that the browser captures is measured from its capture; one that the server
 * reads only by the server, from its arrival to its score. A score is displayed in the animation frame after its event, in which
 * the curve is drawn.
 */
() => {
  const MAX_PENDING = 1024;
  const { live } = window.mmduetPage.view;
  const captures = new Map(); // capture time by seq
  const decisions = new Map(); // {decided, captured} by seq, later by the id of the reply
  let record, lastTime, notSent;

  function reset() {
    record = { frames: [], words: [], dropped: {}, captured: 0, notCaptured: 0, errors: [] };
  }

  function bound(map) {
    if (map.size > MAX_PENDING) map.delete(map.keys().next().value);
  }

  function drop(reason, count) {
    if (count > 0) record.dropped[reason] = (record.dropped[reason] ?? 0) + count;
  }

  function onCapture({ seq, time, at }) {
    const fps = live.session?.created.duet.fps ?? 2;
    if (lastTime !== null) record.notCaptured += Math.max(0, Math.round((time - lastTime) * fps) - 1);
    lastTime = time;
    record.captured++;
    captures.set(seq, at);
    bound(captures);
  }

  function onScored({ seq, age_ms: age, decision }) {
    const now = performance.now();
    const captured = captures.get(seq) ?? null;
    captures.delete(seq);
    const frame = { server: age, arrived: captured === null ? null : now - captured, displayed: null };
    record.frames.push(frame);
    if (captured !== null) requestAnimationFrame(() => { frame.displayed = performance.now() - captured; });
    if (decision !== "speak") return;
    decisions.set(seq, { decided: now, captured });
    bound(decisions);
  }

  function onReply({ id, duet }) {
    const decision = decisions.get(duet.trigger_seq);
    if (decision !== undefined && !duet.forced) decisions.set(id, decision);
    decisions.delete(duet.trigger_seq);
  }

  function onText(id) {
    const decision = decisions.get(id);
    if (decision === undefined) return;
    const now = performance.now();
    decisions.delete(id);
    record.words.push({ decision: now - decision.decided, frame: decision.captured === null ? null : now - decision.captured });
  }

  function onEvent(event) {
    if (event.type === "input_frame.scored") onScored(event);
    else if (event.type === "input_frame.dropped") drop(event.reason, 1);
    else if (event.type === "response.created") onReply(event.response);
    else if (event.type === "response.output_text.delta") onText(event.response_id);
    else if (event.type === "error") record.errors.push(`${event.error.code}: ${event.error.message}`);
  }

  function onOpened() {
    captures.clear();
    decisions.clear();
    lastTime = null;
    notSent = 0;
  }

  reset();
  onOpened();
  live.addEventListener("opened", onOpened);
  live.addEventListener("statechange", () => { if (live.state !== "live") lastTime = null; });
  live.addEventListener("capture", ({ detail }) => onCapture(detail));
  live.addEventListener("event", ({ detail }) => onEvent(detail));
  /* Return what was recorded since the last call. */
  window.takeRecord = () => {
    drop("not_sent", live.notSent - notSent);
    notSent = live.notSent;
    const taken = record;
    reset();
    return taken;
  };
}

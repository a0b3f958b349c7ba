// @ts-check
/** The events of a session in bounded memory, for export. */

const NOT_KEPT = new Set(["input_frame.thumbnail", "session.heartbeat_ack", "session.queued"]);

export class EventLog {
  /** @param {number} capacity */
  constructor(capacity = 5000) {
    this.capacity = capacity;
    /** @type {Array<Record<string, any>>} */
    this.events = [];
    this.omitted = 0;
  }

  /** @param {Record<string, any>} event of the server */
  add(event) {
    if (NOT_KEPT.has(event.type)) return;
    this.events.push(withoutSecrets(event));
    const excess = this.events.length - this.capacity;
    if (excess < this.capacity / 10) return;
    this.events.splice(0, excess);
    this.omitted += excess;
  }

  clear() {
    this.events = [];
    this.omitted = 0;
  }
}

/**
 * Return the event without the token with which a session can be taken over.
 * @param {Record<string, any>} event
 */
function withoutSecrets(event) {
  if (event.session?.duet?.resume_token === undefined) return event;
  const { resume_token: _, ...duet } = event.session.duet;
  return { ...event, session: { ...event.session, duet } };
}

"""One session's server-side protocol state: conversation, events, journal and recovery; sans I/O."""

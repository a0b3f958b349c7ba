"""What scores and replies mean for a task: spans, highlights; pure functions over timelines, no torch."""

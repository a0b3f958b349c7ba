"""Pictures of videos, scores, spans and replies, for the command line, reports and web pages."""

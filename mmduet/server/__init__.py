"""The inference server: live streams over WebSockets, and HTTP endpoints."""

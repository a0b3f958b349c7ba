"""Run tasks over many videos, in this process or against a server."""

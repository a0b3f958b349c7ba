"""Suppression of replies that repeat a recent one. It depends on no model and no session."""

from __future__ import annotations


class RepeatFilter:
    """Holds text back while the reply may still turn out to repeat a recent one."""

    def __init__(self, recent: tuple[str, ...]) -> None:
        self._recent = recent
        self._held = ""
        self._is_new = False

    def push(self, delta: str) -> str:
        """Add text and return what may be emitted now."""
        self._held += delta
        if not self._is_new and any(text.startswith(self._held) for text in self._recent):
            return ""
        self._is_new = True
        released, self._held = self._held, ""
        return released

    def finish(self) -> tuple[str, bool]:
        """Return the text that is left to emit, and whether the reply repeats a recent one; then nothing is left."""
        if not self._is_new and self._held in self._recent:
            return "", True
        return self._held, False

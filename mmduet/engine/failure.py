"""A session that failed, as the error it was: for those who run sessions and would rather raise."""

from __future__ import annotations

from mmduet.errors import EngineError
from mmduet.events import SessionFailed


def error_of(failed: SessionFailed) -> EngineError:
    """The error, with the code and the exit status that the session ended with."""
    error = EngineError(failed.message)
    error.code, error.exit_status = failed.code, failed.exit_status
    return error

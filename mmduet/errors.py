"""The hierarchy of errors that users can meet, each with a stable code.

A message states what is wrong, with its value, and what to do about it. Codes are part of the public interface: scripts and
clients match on them, so a code is never renamed. ``exit_status`` is the exit status of the command line.
"""

from __future__ import annotations

from mmduet.redaction import redact_text


class MmduetError(Exception):
    """Base class of all errors. Credentials of URLs are removed from the message."""

    code = "internal"
    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(redact_text(message))


class OptionError(MmduetError):
    """An invalid option, setting or argument."""

    code = "bad_option"
    exit_status = 2


class FormatError(MmduetError):
    """A conversation that violates the duet format."""

    code = "bad_format"
    exit_status = 3


class VideoError(MmduetError):
    """A video that cannot be opened or decoded."""

    code = "bad_video"
    exit_status = 4


class VideoNotFoundError(VideoError):
    """The video file does not exist."""

    code = "video_not_found"


class NoVideoStreamError(VideoError):
    """The file can be opened but contains no video frames, for example audio only."""

    code = "no_video_stream"


class NoDecoderError(VideoError):
    """FFmpeg has no decoder for the video's codec."""

    code = "no_decoder"


class CorruptVideoError(VideoError):
    """The file has no frame that can be decoded; or it is damaged and damage is an error (``strict``)."""

    code = "corrupt_video"


class VideoWriteError(VideoError):
    """The encoder rejected a frame, or the file cannot be written."""

    code = "video_write"


class ModelError(MmduetError):
    """A model that cannot be built or loaded."""

    code = "bad_model"
    exit_status = 5


class ModelNotFoundError(ModelError):
    """The name is neither a bundled model, nor a directory, nor a model on the hub."""

    code = "model_not_found"


class DownloadError(ModelError):
    """A model that cannot be downloaded from the hub: no connection, no access, or no space."""

    code = "download_failed"


class CheckpointError(ModelError):
    """A checkpoint that cannot be read, or has missing, unexpected or misshapen tensors."""

    code = "bad_checkpoint"


class AnnotationError(MmduetError):
    """An annotation or prediction file that cannot be read or does not follow its format."""

    code = "bad_annotation"
    exit_status = 6


class EngineError(MmduetError):
    """A request that the engine cannot execute."""

    code = "engine"
    exit_status = 7


class CapacityError(EngineError):
    """A session's slot, or the engine, has too little memory for a request."""

    code = "no_capacity"


class RateLimitError(CapacityError):
    """A limit of the request's API key is reached. ``retry_after_seconds`` is when to try again."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_seconds: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SessionClosedError(EngineError):
    """The session is closed and accepts no further input."""

    code = "session_closed"


class TrainingError(MmduetError):
    """Training that cannot continue, for example after a non-finite loss or in a run directory of another recipe."""

    code = "training"
    exit_status = 8


class ProtocolError(MmduetError):
    """A message that violates the wire protocol; the session continues.

    ``code`` is one of the protocol's error codes, ``param`` the dotted path of the invalid field, ``event_id`` the id that
    the client gave its message.
    """

    code = "bad_message"
    exit_status = 9

    def __init__(
        self, message: str, code: str | None = None, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.param, self.event_id = param, event_id


class ServerError(MmduetError):
    """A server that cannot be started or reached, or a request that it rejects."""

    code = "server"
    exit_status = 10


class ConnectionLostError(ServerError):
    """The connection to the server is lost, or the session no longer exists there."""

    code = "connection_lost"


class StorageError(ServerError):
    """A disk that is full or cannot be written, on the machine that processes the request."""

    code = "storage"


class AuthError(ServerError):
    """A missing or wrong API key."""

    code = "unauthorized"


class ProxiedRequestError(AuthError):
    """A request that came through a proxy to a server without keys."""

    code = "proxied_request"


class OriginError(AuthError):
    """A web page from an origin that is not allowed to connect."""

    code = "forbidden_origin"


class ConflictError(ServerError):
    """A request that the session's state does not allow, such as pausing a source that has ended."""

    code = "conflict"


class NotFoundError(ServerError):
    """A path or session that does not exist on the server."""

    code = "not_found"


class SourceError(VideoError):
    """A camera or network stream that cannot be reached, or that the server is not allowed to open."""

    code = "bad_source"

"""The error tree: every failure a user can meet, with a stable code; it knows nothing of how errors are shown.

A message names the thing, the value and the remedy. Codes are part of the public interface: scripts and clients match on
them, so a code is never renamed. ``exit_status`` is what the command line returns for that branch of the tree.
"""

from __future__ import annotations


class MmduetError(Exception):
    """Root of the tree; ``code`` is stable, ``exit_status`` is for the command line."""

    code = "internal"
    exit_status = 1


class OptionError(MmduetError):
    """An option, a setting or an argument that cannot be used."""

    code = "bad_option"
    exit_status = 2


class FormatError(MmduetError):
    """A conversation that the duet format does not allow."""

    code = "bad_format"
    exit_status = 3


class VideoError(MmduetError):
    """A video that cannot be opened or decoded."""

    code = "bad_video"
    exit_status = 4


class VideoNotFoundError(VideoError):
    """There is no file of that name."""

    code = "video_not_found"


class NoVideoStreamError(VideoError):
    """The file opens, but holds no picture (audio only, or no frames)."""

    code = "no_video_stream"


class CorruptVideoError(VideoError):
    """The file is damaged; the frames before the damage were delivered."""

    code = "corrupt_video"


class VideoWriteError(VideoError):
    """The encoder refused a frame or the file could not be written."""

    code = "video_write"


class ModelError(MmduetError):
    """A model that cannot be loaded, built or asked for."""

    code = "bad_model"
    exit_status = 5


class ModelNotFoundError(ModelError):
    """No model of that name, and no directory either."""

    code = "model_not_found"


class CheckpointError(ModelError):
    """A checkpoint whose tensors are missing, unexpected or misshapen."""

    code = "bad_checkpoint"


class AnnotationError(MmduetError):
    """An annotation or prediction file that does not follow its format."""

    code = "bad_annotation"
    exit_status = 6


class EngineError(MmduetError):
    """A request the engine cannot carry out."""

    code = "engine"
    exit_status = 7


class CapacityError(EngineError):
    """A session's slot or the engine has no room for what was asked."""

    code = "no_capacity"


class SessionClosedError(EngineError):
    """The session has ended; nothing more can be done with it."""

    code = "session_closed"


class TrainingError(MmduetError):
    """Training that cannot go on: a step without a finite loss, a run directory of another recipe."""

    code = "training"
    exit_status = 8


class ProtocolError(MmduetError):
    """A message that the wire protocol does not allow; the session goes on.

    ``code`` is one of the protocol's own, ``param`` the dotted name of what is wrong, ``event_id`` the client's name for its
    message.
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
    """A server that cannot be started, reached or asked."""

    code = "server"
    exit_status = 10


class ConnectionLostError(ServerError):
    """The way to the server is gone, or the session there is."""

    code = "connection_lost"


class AuthError(ServerError):
    """A key that is missing or wrong."""

    code = "unauthorized"


class OriginError(AuthError):
    """A page of an origin that may not connect."""

    code = "forbidden_origin"


class NoPublicAddressError(ServerError):
    """An address at which the server has nothing."""

    code = "not_found"


class SourceError(VideoError):
    """A stream that a server was asked to pull and may not, or cannot reach."""

    code = "bad_source"

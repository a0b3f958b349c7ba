"""One rendered scene and its frames, as the input of measurements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmduet.annotations.scene_files import read_clips
from mmduet.client.images import encode_image
from mmduet.engine import Engine
from mmduet.engine.session import PreparedFrame
from mmduet.errors import OptionError, VideoWriteError
from mmduet.events import Frame
from mmduet.scenes import SplitSpec, make_split
from mmduet.video import open_frames


def encoded_scene_frames(seconds: float, fps: float, seed: int) -> list[bytes]:
    """Return the frames of a scene as JPEG."""
    return [encode_image(frame.image).data for frame in _render_frames(seconds, fps, seed)]


def prepared_scene_frames(engine: Engine, seconds: float, fps: float, seed: int) -> list[PreparedFrame]:
    """Return the frames of a scene as ``engine`` prepares them."""
    return [engine.prepare(frame) for frame in _render_frames(seconds, fps, seed)]


def _render_frames(seconds: float, fps: float, seed: int) -> Iterator[Frame]:
    with rendered_scene(seconds, seed) as video:
        yield from open_frames(video, fps)


@contextmanager
def rendered_scene(seconds: float, seed: int) -> Iterator[Path]:
    """Render the scene of ``seed`` into a temporary folder, for the block. Raises OptionError if it cannot be written."""
    with TemporaryDirectory() as folder:
        try:
            make_split(folder, SplitSpec("test", 1, seed, seconds, seconds))
        except VideoWriteError as error:
            message = str(error).replace(f"{folder}/", "")
            raise OptionError(f"the scene cannot be rendered into a temporary folder: {message}") from error
        yield Path(folder) / "videos" / read_clips(folder)[0]["video"]

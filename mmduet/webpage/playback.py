"""Decides whether browsers play a video file as it is."""

from __future__ import annotations

from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from mmduet.video import container as containers

MP4_FORMAT, MATROSKA_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
QUICKTIME_BRAND = "qt"
WEBM_DOCTYPE = b"\x42\x82\x84webm"  # the EBML element DocType; that of other Matroska files is "matroska"
HEADER_BYTES = 64
VIDEO_CODECS = {"video/mp4": {"h264", "vp9", "av1"}, "video/webm": {"vp8", "vp9", "av1"}}
AUDIO_CODECS = {"video/mp4": {"aac", "mp3", "opus", "flac"}, "video/webm": {"opus", "vorbis"}}
PIXEL_FORMATS = ("yuv420p", "yuvj420p")


def browser_media_type(path: Path) -> str | None:
    """Return the media type under which the common browsers play a file; None if they do not play it.

    That is decided by container, codecs and pixel format. Raises ``VideoError`` for a file without a video.
    """
    with containers.open_container(path) as container:
        media_type = _media_type(container, path)
        stream = containers.select_video_stream(container, path)
        if media_type is None or not _plays_video(container, stream, media_type):
            return None
        audio = {track.codec_context.name if containers.has_decoder(track) else "" for track in container.streams.audio}
        return media_type if audio <= AUDIO_CODECS[media_type] else None


def _media_type(container: InputContainer, path: Path) -> str | None:
    if container.format.name == MP4_FORMAT:
        brand = container.metadata.get("major_brand", QUICKTIME_BRAND)
        return None if brand.strip() == QUICKTIME_BRAND else "video/mp4"
    if container.format.name == MATROSKA_FORMAT:
        with path.open("rb") as file:
            return "video/webm" if WEBM_DOCTYPE in file.read(HEADER_BYTES) else None
    return None


def _plays_video(container: InputContainer, stream: VideoStream, media_type: str) -> bool:
    """Return whether browsers decode the stream, and choose the same one as ``select_video_stream``."""
    context = stream.codec_context
    is_first = stream.index == container.streams.video[0].index
    return is_first and context.name in VIDEO_CODECS[media_type] and context.pix_fmt in PIXEL_FORMATS

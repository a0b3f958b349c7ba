"""Video decoders and FFmpeg libraries of the installed PyAV."""

from __future__ import annotations

DECODERS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "VP9": ("vp9", "libvpx-vp9"),
    "AV1": ("libdav1d", "libaom-av1"),
    "MPEG-4": ("mpeg4",),
    "MJPEG": ("mjpeg",),
}
"""Codecs of usual videos and the decoders of FFmpeg for them. FFmpeg's own ``av1`` works with graphics cards only."""


def video_decoders() -> dict[str, str | None]:
    """Return the decoder of each codec, None for a codec that cannot be decoded."""
    from av.codec import codecs_available

    return {
        codec: next((name for name in names if name in codecs_available), None) for codec, names in DECODERS.items()
    }


def ffmpeg_libraries() -> dict[str, str]:
    """Return the versions of FFmpeg's libraries, by name."""
    import av

    return {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())}

"""Container formats that are read: those that hold video or audio and name no other file, address or device."""

from __future__ import annotations

import io

CONTAINER_FORMATS = (
    # containers
    "mov", "matroska", "mpegts", "mpeg", "avi", "flv", "live_flv", "ogg", "asf", "asf_o", "mxf", "gxf", "nut", "rm", "wtv",
    "dv", "nsv", "nuv", "ivf", "pva", "ty", "gif", "apng", "yuv4mpegpipe", "swf", "smk", "bink", "roq", "flic", "dhav",
    # raw streams
    "h264", "hevc", "vvc", "av1", "obu", "m4v", "mpegvideo", "mjpeg", "mjpeg_2000", "mpjpeg", "h261", "h263", "vc1",
    "cavsvideo", "avs2", "avs3", "dirac", "dnxhd",
    # images
    "jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe", "jpegxl_pipe", "jpegxl_anim", "j2k_pipe",
    "qoi_pipe", "ppm_pipe", "pgm_pipe", "pbm_pipe", "pam_pipe", "exr_pipe", "psd_pipe", "tga_pipe", "ico",
    # audio and text, which are opened to say that there is no video in them
    "wav", "w64", "mp3", "aac", "flac", "ac3", "eac3", "dts", "aiff", "amr", "caf", "au", "tta", "wv", "ape", "loas",
    "tty", "bin", "xbin", "adf", "idf",
)  # fmt: skip


def refuse_to_open(url: str, flags: int, options: dict[str, str]) -> io.BytesIO:
    """Raise PermissionError: what FFmpeg would open besides the file that it was given."""
    raise PermissionError("the file names another one, which is not opened")

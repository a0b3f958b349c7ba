"""A real RTSP server (GStreamer) in a process of the system's Python; this file is also that process's program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's GStreamer bindings only work with Debian's Python
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
TEST_PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48,framerate=24/1 ! "
    "x264enc tune=zerolatency key-int-max=6 speed-preset=ultrafast ! rtph264pay name=pay0 pt=96 )"
)


@contextmanager
def run_rtsp_server(port: int = 0, password: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run the server until the block ends; its process has the port as ``.port``."""
    command = [SYSTEM_PYTHON, __file__, str(port), password]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise AssertionError(f"the RTSP server did not start; run: apt-get install {PACKAGES}\n{process.stderr.read()}")
    process.port = int(line)  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> None:
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory(launch=TEST_PIPELINE, shared=True)
    if sys.argv[2]:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("cam", sys.argv[2]), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/film", factory)
    assert server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()

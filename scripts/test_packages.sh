#!/usr/bin/env bash
# Install the Debian packages that the tests need: GStreamer's RTSP server, for camera tests, and Chromium, for browser tests.
# Without root it prints the command to run; camera and browser tests fail until then, the others do not.
set -euo pipefail
packages="python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly chromium"
ready() { command -v chromium >/dev/null && /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null; }

ready && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	apt-get update -qq
	# shellcheck disable=SC2086 # several words
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
ready || echo "Camera and browser tests need these packages: sudo apt-get install $packages" >&2

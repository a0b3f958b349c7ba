#!/usr/bin/env bash
# Installs what the tests need beside Python packages, of Debian's: a real RTSP server (GStreamer's) to pull cameras from, a browser.
# Where it may not, it says what to install; the tests of cameras and of pages fail without it, the others do not.
set -euo pipefail
packages="python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly chromium"
ready() { command -v chromium >/dev/null && /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null; }

ready && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	apt-get update -qq
	# shellcheck disable=SC2086 # they are several
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
ready || echo "The tests of cameras and of pages need these: sudo apt-get install $packages" >&2

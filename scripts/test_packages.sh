#!/usr/bin/env bash
# Installs what the tests need beside Python packages: a real RTSP server to pull cameras from (GStreamer's, of Debian's packages).
# Where it may not, it says what to install; the tests of cameras fail without it, the others do not.
set -euo pipefail
packages="python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
ready() { /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null; }

ready && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	apt-get update -qq
	# shellcheck disable=SC2086 # they are several
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
ready || echo "The tests of cameras need an RTSP server: sudo apt-get install $packages" >&2

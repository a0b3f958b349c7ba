#!/usr/bin/env bash
# Install the Debian packages that the tests need: GStreamer's RTSP server, for camera tests, Chromium, for browser tests, and
# nginx and Caddy, for the deployment guide's examples, libfaketime, for clock jumps, and Xvfb, for the capture of a screen.
# Without root it prints the command to run; the tests that need them fail until then, the others do not.
set -euo pipefail
packages="python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly chromium nginx caddy faketime xvfb"
ready() {
	for program in chromium nginx caddy faketime Xvfb; do PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || return 1; done
	/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null
}

install() {
	# The tests start nginx and Caddy themselves; Debian would start them as services on the machine's ports.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
	fi
	present=$(PATH="$PATH:/usr/sbin" command -v nginx caddy || true)
	apt-get update -qq
	# shellcheck disable=SC2086 # several words
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
	for service in nginx caddy; do
		case "$present" in *$service*) ;; *) systemctl disable "$service" 2>/dev/null || true ;; esac
	done
}

ready && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then install; fi
ready || echo "Camera, browser and proxy tests need these packages: sudo apt-get install $packages" >&2

"""Playlists that name files, networks and nonsense: as a file, and pulled by a server; nothing outside is opened."""

from __future__ import annotations

from pathlib import Path

from container_files import intact
from fuzzing import apply_edits, edits, fuzz, only_own_errors
from hypothesis import strategies as st

from mmduet.video.open_source import open_source

PIECES = (
    "#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.5,", "#EXTINF:1e99,", "#EXTINF:-1,", "#EXT-X-ENDLIST",
    "#EXT-X-BYTERANGE:500@100", "#EXT-X-BYTERANGE:99999999999999999999@-1", '#EXT-X-MAP:URI="clip.mp4",BYTERANGE="40@0"',
    '#EXT-X-KEY:METHOD=AES-128,URI="key"', "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=64x48", "#EXT-X-DISCONTINUITY",
    "#EXT-X-MEDIA-SEQUENCE:18446744073709551615", "clip.ts", "clip.mp4", "clip.ts?x=1#y", "list.m3u8", "missing.ts",
    "/etc/hostname", "file:///etc/hostname", "http://127.0.0.1:9/a.ts", "tcp://127.0.0.1:9", "concat:clip.ts|clip.ts",
    "data:video/mp2t;base64,R0A=",
    "pipe:0", "subfile,,start,0,end,500,,:clip.ts", "ffconcat version 1.0", "file 'clip.ts'", "file '/etc/hostname'",
    "duration 1e9", "inpoint -1", "outpoint 1e99", "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0",
    "m=video 9 RTP/AVP 96", "a=rtpmap:96 H264/90000",
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp4" bandwidth="1"><BaseURL>clip.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
)  # fmt: skip
NAMES = ("list.m3u8", "list.m3u", "LIST.M3U8", "list.mpd", "list.ffconcat", "list.txt", "list.sdp", "list.mp4")
MAX_FRAMES = 40


def test_playlists(tmp_path: Path, share: float) -> None:
    (tmp_path / "clip.ts").write_bytes(intact("ts"))
    (tmp_path / "clip.mp4").write_bytes(intact("mp4"))

    def check(case: tuple[str, str, list[str], list]) -> None:
        name, first, lines, changes = case
        path = tmp_path / name
        path.write_bytes(apply_edits("\n".join((first, *lines)).encode(), changes))
        with only_own_errors():
            source = open_source(str(path))
            try:
                for _, frame in zip(range(MAX_FRAMES), source.frames(4.0), strict=False):
                    assert frame.image.size
            finally:
                source.close()
        path.unlink()

    starts = st.sampled_from(("#EXTM3U", "ffconcat version 1.0", "v=0", PIECES[-1]))
    lines = st.lists(st.sampled_from(PIECES), max_size=10)
    fuzz("playlists", share, st.tuples(st.sampled_from(NAMES), starts, lines, st.just([]) | edits()), check, 12)

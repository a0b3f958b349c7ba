"""Playlists on disk: their segments are read as one video, and nothing outside the playlist's folder is opened."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hls_files import encrypt, openssl_encrypt, shown_second, write_hls
from hypothesis import given
from hypothesis import strategies as st
from video_files import make

from mmduet.errors import VideoError
from mmduet.video import VideoFile
from mmduet.video.aes import decrypt_cbc
from mmduet.video.hls_playlist import parse_playlist


def seconds_shown(path: Path) -> list[int]:
    with VideoFile(path) as file:
        return [shown_second(frame.image) for frame in file]


def check_three_seconds(path: Path) -> None:
    """Check that a playlist is read completely, in order and once."""
    assert seconds_shown(path) == [index // 8 for index in range(24)]
    with VideoFile(path) as file:
        assert file.info.duration == pytest.approx(3.0, abs=0.3)
        assert [frame.time for frame in file] == pytest.approx([index / 8 for index in range(24)])


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
def test_segments_are_read_as_one_video(tmp_path: Path, kind: str) -> None:
    check_three_seconds(write_hls(tmp_path / "plain", hls_segment_type=kind))
    single = write_hls(tmp_path / "single", hls_segment_type=kind, hls_flags="single_file")
    assert "#EXT-X-BYTERANGE" in single.read_text()
    check_three_seconds(single)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#EXTM3U\n", "is an empty playlist: it names no video"),
        ("#EXTM3U\n#EXT-X-VERSION:3\n\n#EXT-X-ENDLIST\n", "is an empty playlist: it names no video"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-ENDLIST\n", "lists no segments; record it again"),
        ("#EXTM3U\nfirst.mp4\n", "is a list of addresses, not an HLS playlist"),
    ],
)
def test_a_playlist_without_video_is_described(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.m3u8").write_text(text)
    with pytest.raises(VideoError, match=message):
        VideoFile(tmp_path / "x.m3u8")


def test_offsets_of_byte_ranges_may_be_implicit(tmp_path: Path) -> None:
    playlist = write_hls(tmp_path / "x", hls_flags="single_file")
    lines = [
        line.partition("@")[0] if line.startswith("#EXT-X-BYTERANGE") and not line.endswith("@0") else line
        for line in playlist.read_text().splitlines()
    ]
    playlist.write_text("\n".join(lines))
    check_three_seconds(playlist)


@pytest.mark.parametrize("suffix", ["m3u8", "M3U8", "m3u", "mp4", "txt"])
def test_playlist_is_recognised_by_its_content(tmp_path: Path, suffix: str) -> None:
    playlist = write_hls(tmp_path / "x")
    for segment in tmp_path.glob("x/s?.ts"):
        segment.rename(segment.with_suffix(""))
    text = playlist.read_text().replace(".ts", "").replace("#EXT-X-ENDLIST", "")
    renamed = playlist.with_suffix(f".{suffix}")
    renamed.write_text("\ufeff" + text)
    check_three_seconds(renamed)


@pytest.mark.parametrize("explicit", [True, False])
def test_encrypted_segments_are_decrypted(tmp_path: Path, explicit: bool) -> None:
    playlist = write_hls(tmp_path / "x")
    encrypt(playlist, os.urandom(16), explicit=explicit)
    check_three_seconds(playlist)
    (tmp_path / "x" / "key.bin").write_bytes(os.urandom(16))
    with pytest.raises(VideoError):
        seconds_shown(playlist)


@pytest.mark.parametrize(
    "tag",
    [
        'METHOD=SAMPLE-AES,URI="key.bin"',
        'METHOD=SAMPLE-AES-CTR,URI="data:text/plain;base64,AAAA",KEYFORMAT="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"',
        'METHOD=AES-128,URI="skd://key",KEYFORMAT="com.apple.streamingkeydelivery"',
    ],
)
def test_other_encryption_is_refused_by_name(tmp_path: Path, tag: str) -> None:
    playlist = write_hls(tmp_path / "x")
    playlist.write_text(playlist.read_text().replace("#EXTINF", f"#EXT-X-KEY:{tag}\n#EXTINF", 1))
    with pytest.raises(VideoError, match=tag.split(",")[0].partition("=")[2]):
        VideoFile(playlist)


OTHER_KEY = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://key",KEYFORMAT="com.apple.streamingkeydelivery"\n'


@pytest.mark.parametrize("is_first", [True, False])
def test_one_of_the_keys_of_a_segment_is_enough(tmp_path: Path, is_first: bool) -> None:
    playlist = write_hls(tmp_path / "x")
    encrypt(playlist, b"k" * 16, explicit=True)
    before = "#EXT-X-KEY" if is_first else "#EXTINF"
    playlist.write_text(playlist.read_text().replace(before, OTHER_KEY + before, 1))
    check_three_seconds(playlist)


def test_a_key_that_cannot_be_used_replaces_the_one_before(tmp_path: Path) -> None:
    playlist = write_hls(tmp_path / "x")
    encrypt(playlist, b"k" * 16, explicit=True)
    text = playlist.read_text().replace("#EXT-X-KEY", OTHER_KEY + "#EXT-X-KEY", 1)
    first, second, third = text.split("#EXTINF", 2)
    playlist.write_text(f"{first}#EXTINF{second}{OTHER_KEY}#EXTINF{third}")
    with pytest.raises(VideoError, match="SAMPLE-AES"):
        VideoFile(playlist)


def test_one_variant_of_a_master_playlist_is_read(tmp_path: Path) -> None:
    write_hls(tmp_path / "large", size=(640, 360))
    write_hls(tmp_path / "huge", size=(1280, 720))
    write_hls(tmp_path / "small", size=(160, 90))
    master = tmp_path / "master.m3u8"
    master.write_text(
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",URI="none.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS="mp4a.40.2"\nnone.m3u8\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=160x90\nsmall/list.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=3,RESOLUTION=1280x720\nhuge/list.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=2,RESOLUTION=640x360\nlarge/list.m3u8\n"
    )
    shutil.rmtree(tmp_path / "small")
    shutil.rmtree(tmp_path / "huge")
    (tmp_path / "small").mkdir()
    (tmp_path / "huge").mkdir()
    for name in ("small", "huge"):
        (tmp_path / name / "list.m3u8").write_text("never read")
    check_three_seconds(master)
    master.write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmaster.m3u8\n")
    with pytest.raises(VideoError, match="lists others"):
        VideoFile(master)


def test_playlist_may_only_name_files_in_its_folder(tmp_path: Path) -> None:
    outside = write_hls(tmp_path / "outside").parent / "s0.ts"
    folder = write_hls(tmp_path / "root").parent
    (folder / "link.ts").symlink_to(outside)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    port = listener.getsockname()[1]
    for evil in (
        f"file://{outside}", f"FILE:{outside}", str(outside), "../outside/s0.ts", "%2e%2e/outside/s0.ts", "link.ts",
        f"http://127.0.0.1:{port}/x.ts", f"crypto+http://127.0.0.1:{port}/x.ts", f"subfile,,start,0,end,0,,:{outside}",
        f"concat:{outside}", f"tcp://127.0.0.1:{port}", "none.ts", "a" * 300, "",
    ):  # fmt: skip
        for name in ("evil.m3u", "evil.M3U8", "evil.mp4"):
            path = folder / name
            path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{evil}\n#EXT-X-ENDLIST\n")
            with pytest.raises(VideoError):
                VideoFile(path)
            path.write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{evil}"\n#EXTINF:1,\ns0.ts\n')
            with pytest.raises(VideoError):
                VideoFile(path)
            path.write_text(f"#EXTM3U\n{evil}\n")
            with pytest.raises(VideoError):
                VideoFile(path)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


def test_formats_that_name_other_files_are_refused(tmp_path: Path) -> None:
    video = make(tmp_path / "video.mp4", 5)
    make(tmp_path / "1.png", 1, codec="png", pix_fmt="rgb24", codec_options={})
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.mp4"
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    mpd = (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-main:2011" '
        f'type="static" mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="0" bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    texts = {
        "a.ffconcat": f"ffconcat version 1.0\nfile {video.name}\n", "a.FFCONCAT": f"ffconcat version 1.0\nfile '{video}'\n",
        "b.mp4": f"ffconcat version 1.0\nfile {url}\n", "c.sdp": sdp, "C.SDP": sdp, "c.mp4": sdp, "d.mpd": mpd, "d.mp4": mpd,
        "e.idx": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n", "f%d.png": "x",
        "g.mp4": f"[playlist]\nFile1={url}\n", "h.m3u": f"{video.name}\n", "i.txt": f"file '{video}'\n",
        "j.asx": f"<asx><entry><ref href=\"{url}\"/></entry></asx>", "k.xml": f"rtsptext\r\nrtsp://{url}",
        "l.mov": f"RTSPtext{url}", "m.mp4": f"#!movie={video}",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError):
            VideoFile(tmp_path / name)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()
    assert len(list(VideoFile(tmp_path / "1.png"))) == 1


@given(st.binary(max_size=300).map(lambda text: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + text))
def test_any_playlist_is_parsed_or_refused(data: bytes) -> None:
    with suppress(VideoError):
        parse_playlist(data, "x", str)


TAGS = st.sampled_from(
    [
        "#EXTINF:", "#EXT-X-KEY:METHOD=", '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=', "#EXT-X-MAP:URI=", "#EXT-X-BYTERANGE:",
        "#EXT-X-MEDIA-SEQUENCE:", "#EXT-X-STREAM-INF:RESOLUTION=", "#EXT-X-TARGETDURATION:", "#EXT-X-GAP", "s.ts", "²",
        "9" * 400,
    ]
)  # fmt: skip


@given(st.lists(st.tuples(TAGS, st.text(max_size=12) | st.from_regex(r"[0-9]{1,30}(@[0-9]{1,30})?", fullmatch=True))))
def test_any_tags_are_parsed_or_refused(lines: list[tuple[str, str]]) -> None:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + "\n".join(tag + value for tag, value in lines)
    test_any_playlist_is_parsed_or_refused.hypothesis.inner_test(text.encode("utf-8", "replace"))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 400_000])
def test_decryption_inverts_openssl(size: int) -> None:
    data, key, vector = np.random.default_rng(size).bytes(size), os.urandom(16), os.urandom(16)
    encrypted = openssl_encrypt(data, key, vector)
    assert decrypt_cbc(encrypted, key, vector) == data
    for wrong in (
        (encrypted[:-1], key, vector),
        (b"", key, vector),
        (encrypted, key[:-1], vector),
        (encrypted, key, b""),
    ):
        with pytest.raises(ValueError, match="16"):
            decrypt_cbc(*wrong)

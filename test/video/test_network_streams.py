"""Streams over HTTP: HLS in all its forms, MJPEG, endless streams and files, read from a server on loopback."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import md5
from http.server import BaseHTTPRequestHandler
from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hls_files import encrypt, shown_second, write_hls
from PIL import Image
from stream_server import Answer, body, chunked, endless, folder, run_stream_server
from video_files import make

from mmduet.errors import SourceError, VideoError
from mmduet.events import Frame
from mmduet.video.open_source import open_source

EIGHTHS = [index / 8 for index in range(24)]


def read(url: str, limit: int = 200, fps: float | None = None) -> list[Frame]:
    """Return at most ``limit`` frames of a source."""
    with closing(open_source(url)) as source:
        return list(islice(source.frames(fps), limit))


def check_three_seconds(url: str) -> None:
    """Check that a playlist of three seconds at 8 fps is read completely, in order and once."""
    frames = read(url)
    assert [shown_second(frame.image) for frame in frames] == [index // 8 for index in range(24)]
    assert [frame.time for frame in frames] == pytest.approx(EIGHTHS, abs=0.002)


# HLS


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
def test_segments_are_requested_once(tmp_path: Path, kind: str) -> None:
    write_hls(tmp_path, hls_segment_type=kind)
    with run_stream_server(folder(tmp_path)) as server:
        check_three_seconds(server.url("/list.m3u8"))
        assert len(server.requests) == len(set(server.requests))


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
@pytest.mark.parametrize("ranges", [True, False])
def test_byte_ranges_are_honoured(tmp_path: Path, kind: str, ranges: bool) -> None:
    write_hls(tmp_path, hls_segment_type=kind, hls_flags="single_file")
    with run_stream_server(folder(tmp_path, ranges=ranges)) as server:
        check_three_seconds(server.url("/list.m3u8"))
        media = [request for request in server.requests if "list.m3u8" not in request[0]]
        assert len(media) == len(set(media)) == ((3 if kind == "mpegts" else 4) if ranges else 1)


def test_ranges_that_go_backwards_are_refused_by_a_server_without_ranges(tmp_path: Path) -> None:
    playlist = write_hls(tmp_path, hls_flags="single_file")
    lines = playlist.read_text().splitlines()
    first = lines.index("#EXTINF:1.000000,")
    lines = [*lines[:first], *lines[first + 3 : -1], *lines[first : first + 3], lines[-1]]
    playlist.write_text("\n".join(lines))
    with run_stream_server(folder(tmp_path, ranges=False)) as server:
        with pytest.raises(SourceError, match="byte ranges"):
            read(server.url("/list.m3u8"))
        assert server.count("list.ts") == 1
    with run_stream_server(folder(tmp_path)) as server:
        assert [shown_second(frame.image) for frame in read(server.url("/list.m3u8"))][::8] == [1, 2, 0]


def test_server_that_returns_another_range_is_refused(tmp_path: Path) -> None:
    write_hls(tmp_path, hls_flags="single_file")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 1-9/100")
        handler.send_header("Content-Length", "9")
        handler.end_headers()
        handler.wfile.write(b"x" * 9)

    with (
        run_stream_server({**folder(tmp_path), "/list.ts": answer}) as server,
        pytest.raises(SourceError, match="range"),
    ):
        read(server.url("/list.m3u8"))


@pytest.mark.parametrize("explicit", [True, False])
def test_encrypted_segments_are_decrypted(tmp_path: Path, explicit: bool) -> None:
    encrypt(write_hls(tmp_path), os.urandom(16), explicit=explicit)
    with run_stream_server(folder(tmp_path)) as server:
        check_three_seconds(server.url("/list.m3u8"))
        assert server.count("key.bin") == 1
        server.answers["/key.bin"] = body(os.urandom(16))
        with pytest.raises(SourceError, match="decrypted"):
            read(server.url("/list.m3u8"))
        server.answers["/key.bin"] = body(b"short")
        with pytest.raises(SourceError, match="16 bytes"):
            read(server.url("/list.m3u8"))


def test_other_encryption_is_refused_by_name(tmp_path: Path) -> None:
    playlist = write_hls(tmp_path)
    playlist.write_text(
        playlist.read_text().replace("#EXTINF", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"\n#EXTINF', 1)
    )
    with run_stream_server(folder(tmp_path)) as server:
        with pytest.raises(SourceError, match="SAMPLE-AES"):
            read(server.url("/list.m3u8"))
        assert server.count(".ts") == 0


def test_only_one_variant_is_requested(tmp_path: Path) -> None:
    write_hls(tmp_path / "large", size=(640, 360))
    for name, size in (("small", (160, 90)), ("huge", (1280, 720))):
        write_hls(tmp_path / name, size=size)
    (tmp_path / "master.m3u8").write_text(
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",URI="/audio.m3u8"\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=3,RESOLUTION=1280x720\nhuge/list.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=160x90\nsmall/list.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=2,RESOLUTION=640x360\nlarge/list.m3u8\n"
    )
    with run_stream_server(folder(tmp_path)) as server:
        check_three_seconds(server.url("/master.m3u8"))
        assert {path.split("/")[1] for path, _ in server.requests} == {"master.m3u8", "large"}
    (tmp_path / "master.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=3\nmaster.m3u8\n")
    with run_stream_server(folder(tmp_path)) as server, pytest.raises(SourceError, match="lists others"):
        read(server.url("/master.m3u8"))


def test_addresses_of_any_form_behind_a_redirect(tmp_path: Path) -> None:
    playlist = write_hls(tmp_path / "cdn" / "x") if (tmp_path / "cdn").mkdir() is None else None
    assert playlist is not None

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/cdn/x/play?token=1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with run_stream_server(folder(tmp_path)) as server:
        text = playlist.read_text().replace("s0.ts", "seg?n=0").replace("s1.ts", server.url("/abs/1"))
        server.answers["/cdn/x/seg"] = server.answers["/cdn/x/s0.ts"]
        server.answers["/abs/1"] = server.answers["/cdn/x/s1.ts"]
        server.answers["/abs/2.php"] = server.answers["/cdn/x/s2.ts"]
        server.answers["/cdn/x/play"] = body(text.replace("s2.ts", "/abs/2.php?x=y.m3u8").encode(), "text/plain")
        server.answers["/live"] = redirect
        check_three_seconds(server.url("/live"))


def test_times_continue_after_discontinuities(tmp_path: Path) -> None:
    """Each part starts with its own timestamps, and the second has another size."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1"]
    for number, size in enumerate(((64, 48), (128, 96), (64, 48))):
        write_hls(tmp_path / str(number), seconds=1, first=number, size=size, output_ts_offset=str(30 * (3 - number)))
        lines += ["#EXT-X-DISCONTINUITY"] * (number > 0) + ["#EXTINF:1,", f"{number}/s0.ts"]
    (tmp_path / "list.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST"]))
    with run_stream_server(folder(tmp_path)) as server:
        check_three_seconds(server.url("/list.m3u8"))


def live_playlist(first: int, last: int, *, ended: bool = False) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, last + 1):
        lines += ["#EXTINF:1,", f"s{number}.ts"]
    return "\n".join(lines + ["#EXT-X-ENDLIST"] * ended).encode()


def test_sliding_playlist_is_followed_without_repetition(tmp_path: Path) -> None:
    write_hls(tmp_path, seconds=6)
    states = [
        live_playlist(0, 1),
        live_playlist(0, 1),
        live_playlist(1, 3),
        live_playlist(2, 4),
        live_playlist(3, 5, ended=True),
    ]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body(states.pop(0) if len(states) > 1 else states[0])(handler)

    with run_stream_server({**folder(tmp_path), "/list.m3u8": answer}) as server:
        frames = read(server.url("/list.m3u8"))
        assert [shown_second(frame.image) for frame in frames] == [index // 8 for index in range(48)]
        assert all(server.count(f"s{number}.ts") == 1 for number in range(6))


def test_live_playlist_starts_near_its_end_and_skips_missing_segments(tmp_path: Path) -> None:
    write_hls(tmp_path, seconds=6)
    (tmp_path / "s4.ts").unlink()
    states = [live_playlist(0, 4), live_playlist(3, 5, ended=True)]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body(states.pop(0) if len(states) > 1 else states[0])(handler)

    with run_stream_server({**folder(tmp_path), "/list.m3u8": answer}) as server:
        frames = read(server.url("/list.m3u8"))
        assert sorted({shown_second(frame.image) for frame in frames}) == [2, 3, 5]
        assert frames[-1].time == pytest.approx(3.875, abs=0.01)  # the missing second is a gap


@pytest.mark.parametrize("options", [{}, {"hls_segment_type": "fmp4"}])
def test_missing_segments_of_a_finished_playlist_are_damage(tmp_path: Path, options: dict[str, str]) -> None:
    write_hls(tmp_path, 8, **options)
    for number in (0, 2, 3, 7):
        (tmp_path / f"s{number}.ts").unlink()
    with run_stream_server(folder(tmp_path)) as server, closing(open_source(server.url("/list.m3u8"))) as source:
        frames = list(source.frames(None))
        assert not source.live
        damage = source.damage
    assert [(shown_second(frame.image), round(frame.time, 2)) for frame in frames[::8]] == [
        (1, 1),
        (4, 4),
        (5, 5),
        (6, 6),
    ]
    assert len(frames) == 32
    assert [(round(span.start, 2), round(span.end, 2)) for span in damage.spans] == [(0, 1), (2, 4)]
    assert damage.skipped == 24
    assert damage.truncated_at == pytest.approx(7, abs=0.01)


def test_a_finished_playlist_without_any_segment_on_the_server_is_an_error(tmp_path: Path) -> None:
    write_hls(tmp_path)
    for segment in tmp_path.glob("*.ts"):
        segment.unlink()
    with (
        run_stream_server(folder(tmp_path)) as server,
        pytest.raises(SourceError, match=r"s0\.ts returned HTTP status 404"),
    ):
        read(server.url("/list.m3u8"))


def test_closing_ends_a_read_that_waits(tmp_path: Path) -> None:
    write_hls(tmp_path)
    with run_stream_server({**folder(tmp_path), "/list.m3u8": body(live_playlist(0, 2))}) as server:
        source = open_source(server.url("/list.m3u8"))
        frames = source.frames(None)
        assert len(list(islice(frames, 12))) == 12
        start = time.monotonic()
        source.close()
        list(frames)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "text", ["#EXTM3U\nhttp://127.0.0.1/x.ts\n", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-ENDLIST\n", "#EXTM3U"]
)
def test_playlists_without_segments_are_refused(text: str) -> None:
    with run_stream_server({"/x.m3u": body(text.encode())}) as server, pytest.raises(SourceError):
        read(server.url("/x.m3u"))


def test_playlist_does_not_open_local_files(tmp_path: Path) -> None:
    video = make(tmp_path / "video.mp4", 5)
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {video}\n",
    ):
        for name in ("x.m3u8", "x.ffconcat", "x.mp4"):
            with run_stream_server({f"/{name}": body(text.encode())}) as server, pytest.raises(VideoError):
                read(server.url(f"/{name}"))


# MJPEG and other streams without an end


def jpeg(number: int) -> bytes:
    """Return a JPEG with a thumbnail, whose markers are not the image's."""
    image = Image.fromarray(np.full((48, 64, 3), 40 + 10 * number, np.uint8))
    thumbnail = io.BytesIO()
    image.resize((16, 12)).save(thumbnail, "JPEG")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", comment=thumbnail.getvalue())
    return buffer.getvalue()


def camera(interval: float, frames: int | None = None, *, multipart: bool = True) -> Iterator[bytes]:
    """Yield the parts of an MJPEG stream at a constant interval."""
    for number in count() if frames is None else range(frames):
        data = jpeg(number % 20)
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
        yield head + data + b"\r\n" if multipart else data
        time.sleep(interval)


@pytest.mark.parametrize(
    ("content_type", "multipart", "reply"),
    [
        ("multipart/x-mixed-replace; boundary=frame", True, endless),
        ("video/x-motion-jpeg", False, chunked),
        pytest.param("image/jpeg", False, endless, marks=pytest.mark.slow),
    ],
)
def test_mjpeg_is_timed_by_arrival(content_type: str, multipart: bool, reply: Callable[..., Answer]) -> None:
    with run_stream_server({"/cam": reply(lambda: camera(0.1, multipart=multipart), content_type)}) as server:
        start = time.monotonic()
        with closing(open_source(server.url("/cam"))) as source:
            assert source.live
            assert source.info.duration is None
            frames = list(islice(source.frames(None), 7))
        assert 0.35 < frames[-1].time < time.monotonic() - start  # 0.6 s, longer on a machine under load
        assert [round((float(frame.image.mean()) - 40) / 10) for frame in frames] == list(range(7))
        sampled = read(server.url("/cam"), 3, fps=4.0)
        assert sampled[0].time == 0
        assert sampled[2].time > 0.4, "every second or third frame is kept"


def test_mjpeg_parts_that_arrive_in_pieces_or_damaged() -> None:
    def pieces() -> Iterator[bytes]:
        whole = b"".join(islice(camera(0), 6))
        broken = jpeg(0)[:-20]
        for start in range(0, len(whole), 97):
            yield whole[start : start + 97]
        yield broken + jpeg(6)
        yield b"--frame\r\n\r\n" + b"\xff\xd8\xff\xe0\x00\x06junk\xff\xd9" + jpeg(7)

    with run_stream_server({"/cam": chunked(pieces, "multipart/x-mixed-replace;boundary=frame")}) as server:
        frames = read(server.url("/cam"))
        assert [round((float(frame.image.mean()) - 40) / 10) for frame in frames] == list(range(8))
        assert len(server.requests) == 1, "a stream with an end mark has ended"


@pytest.mark.parametrize("boundary", ["frame", '"Frame"', "--frame"])
def test_mjpeg_stream_ends_with_its_last_boundary(boundary: str) -> None:
    def parts() -> Iterator[bytes]:
        yield from camera(0.02, 5)
        yield b"--fra"
        yield b"me--\r\n"

    with run_stream_server({"/cam": endless(parts, f"multipart/x-mixed-replace; boundary={boundary}")}) as server:
        assert len(read(server.url("/cam"))) == 5
        assert len(server.requests) == 1


def test_mjpeg_stream_that_breaks_is_opened_again() -> None:
    answer = endless(lambda: camera(0.02, 5), "multipart/x-mixed-replace; boundary=frame")
    with run_stream_server({"/cam": answer}) as server:
        frames = read(server.url("/cam"), 12)
        assert len(server.requests) == 3
    times = [frame.time for frame in frames]
    assert times == sorted(times)
    assert max(b - a for a, b in pairwise(times)) >= 0.2, "the timeline shows the interruption"


def paced(data: bytes, seconds: float, loops: int = 1) -> Iterator[bytes]:
    """Yield data over a time, in pieces."""
    size = max(len(data) // 40, 1)
    for _ in range(loops):
        for start in range(0, len(data), size):
            yield data[start : start + size]
            time.sleep(seconds / 40)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("ts", {}),
        pytest.param("flv", {}, marks=pytest.mark.slow),
        pytest.param("mkv", {}, marks=pytest.mark.slow),
        pytest.param("mp4", {"movflags": "frag_keyframe+empty_moov"}, marks=pytest.mark.slow),
    ],
)
def test_endless_streams_are_read_while_they_arrive(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    data = make(tmp_path / f"x.{suffix}", 75, options=options).read_bytes()
    with run_stream_server({"/x": endless(lambda: paced(data, 3.0), "application/octet-stream")}) as server:
        start = time.monotonic()
        with closing(open_source(server.url("/x"))) as source:
            assert source.live
            times = [frame.time for frame in islice(source.frames(5.0), 8)]
        assert time.monotonic() - start < 2.9, "frames are shown before the body is complete"
        assert times == pytest.approx([index / 5 for index in range(8)], abs=0.05)
        assert len(server.requests) == 1


def test_raw_video_without_timestamps_is_timed_by_arrival(tmp_path: Path) -> None:
    data = make(tmp_path / "x.h264", 50, codec_options={"g": "5", "bf": "0"}, fps=25).read_bytes()
    with run_stream_server({"/x": endless(lambda: paced(data, 5.0))}) as server:
        frames = read(server.url("/x"), 25)
        assert frames[-1].time > 1.7, "10 frames arrive per second, not the 25 that FFmpeg assumes"


def test_fast_body_without_length_ends(tmp_path: Path) -> None:
    """A finished recording that a server sends without a length is watched once, however its end is marked."""
    data = make(tmp_path / "x.mp4", 20).read_bytes()
    for answer in (endless, chunked):
        reply: Answer = answer(lambda: iter([data]))
        with run_stream_server({"/x": reply}) as server, closing(open_source(server.url("/x"))) as source:
            assert not source.live
            assert len(list(source.frames(None))) == 20


def test_file_without_duration_is_not_read_again(tmp_path: Path) -> None:
    data = make(tmp_path / "x.h264", 20, codec_options={"g": "5"}).read_bytes()
    with run_stream_server({"/x.h264": body(data)}) as server:
        assert len(read(server.url("/x.h264"))) == 20


def test_an_address_with_one_slash_is_not_taken_for_a_file() -> None:
    with pytest.raises(SourceError, match=r"^rtsp:/cam/x is not a valid address; write it as SCHEME://HOST/PATH"):
        open_source("rtsp:/u:pw@cam/x")


def protected(answer: Answer, challenge: str) -> Answer:
    """Answer only requests with the right password, by the scheme of the challenge."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        given = handler.headers.get("Authorization", "")
        if given.startswith("Basic Y2FtOnMvM2NyZXQ=") or _digest_is_right(handler, given):
            return answer(handler)
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None

    return reply


def _digest_is_right(handler: BaseHTTPRequestHandler, given: str) -> bool:
    if not given.startswith("Digest "):
        return False
    fields = dict(part.strip().split("=", 1) for part in given[7:].split(","))
    fields = {name: value.strip('"') for name, value in fields.items()}
    user, request = (md5(text.encode()).hexdigest() for text in ("cam:x:s/3cret", f"GET:{handler.path}"))
    text = f"{user}:{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}:{request}"
    return fields["response"] == md5(text.encode()).hexdigest()


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Digest realm="x", nonce="abc", qop="auth"'])
def test_passwords_are_sent_when_asked_for(challenge: str) -> None:
    answer = protected(endless(lambda: camera(0.02), "multipart/x-mixed-replace; boundary=frame"), challenge)
    with run_stream_server({"/cam": answer}) as server:
        url = f"http://cam:s%2F3cret@127.0.0.1:{server.port}/cam"
        assert len(read(url, 3)) == 3
        with pytest.raises(SourceError, match=r"401 \(user name or password is wrong\); check both") as raised:
            read(url.replace("3cret", "wr0ng"))
        assert "wr0ng" not in str(raised.value)
        with pytest.raises(SourceError, match=r"401 \(a password is required\); write it into the address"):
            read(server.url("/cam"))


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (404, r"404; check the address$"),
        (403, r"403 \(access is denied\); check the rights of the user, or whether the address has expired$"),
        (503, r"503; the address may be right: try again later$"),
    ],
)
def test_an_error_status_says_what_can_be_done(status: int, remedy: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        run_stream_server({"/x": answer}) as server,
        pytest.raises(SourceError, match=f"returned HTTP status {remedy}"),
    ):
        read(server.url("/x"))

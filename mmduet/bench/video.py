"""Measure how fast a video file is decoded, by what is done with its frames, and compare with the codec on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import av
from av.video.frame import PictureType, VideoFrame

from mmduet.bench.memory import peak_memory
from mmduet.errors import OptionError
from mmduet.video import VideoFile, letterbox, open_frames
from mmduet.video.decoder_threads import decoder_threads
from mmduet.video.sampling import check_rate
from mmduet.video.scheduling import preserved_scheduling

if TYPE_CHECKING:
    from av.video.stream import VideoStream

SPARSE_SECONDS = 10.0
"""Interval of the frames of the mode ``sparse``: longer than most groups of pictures."""


@dataclass(frozen=True)
class VideoBenchOptions:
    """What is measured.

    Attributes:
        fps: Frames per second that are sampled.
        size: Side in pixels of the letterboxed image.
        rounds: Number of times that every mode is measured, alternately.
        threads: Threads of the decoder; None for the default.
    """

    fps: float = 2.0
    size: int = 384
    rounds: int = 5
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless all values are valid."""
        check_rate("fps", self.fps)
        if self.size < 1 or self.rounds < 1:
            raise OptionError(f"size and rounds must be at least 1, got {self.size} and {self.rounds}")
        decoder_threads(self.threads)


@dataclass(frozen=True)
class ModeResult:
    """One way to read the file: medians over the rounds.

    Attributes:
        seconds: Time to read the file once, with opening it.
        times_real_time: Duration of the video divided by ``seconds``.
        ratio: Time of ``codec`` in the same round divided by that of this mode: above 1 it is faster.
        frames: Number of frames that are returned.
        packets: Number of packets that are decoded.
    """

    seconds: float
    times_real_time: float
    ratio: float
    frames: int
    packets: int

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement under the names of its JSON file."""
        return {
            "seconds": self.seconds,
            "times_real_time": self.times_real_time,
            "ratio": self.ratio,
            "frames": self.frames,
            "packets": self.packets,
        }


@dataclass(frozen=True)
class VideoBenchResult:
    """The measurements of one file by mode, and what the file is. ``peak_bytes`` is the resident memory of the process."""

    codec: str
    width: int
    height: int
    duration: float
    file_fps: float | None
    threads: int
    peak_bytes: int
    modes: Mapping[str, ModeResult]

    def to_dict(self) -> dict[str, Any]:
        """Return the measurements under the names of their JSON file."""
        return {
            "codec": self.codec,
            "width": self.width,
            "height": self.height,
            "duration": self.duration,
            "file_fps": self.file_fps,
            "threads": self.threads,
            "peak_bytes": self.peak_bytes,
            "modes": {name: mode.to_dict() for name, mode in self.modes.items()},
        }


@dataclass(frozen=True)
class _Reading:
    """What one pass over the file has returned."""

    frames: int
    packets: int


Mode = Callable[[Path], _Reading]


def make_modes(options: VideoBenchOptions) -> dict[str, Mode]:
    """Return the ways to read a file by their names.

    ``codec`` is a loop over PyAV's packets without anything else. ``all`` reads every frame, with times and checks, without
    colour conversion. ``decode_all`` samples frames of a full decode; ``sampled`` decodes only what they need; ``letterboxed``
    converts them to the model's input on the way, and ``converted`` from whole RGB images. ``sparse`` samples one frame in ten
    seconds.
    """
    fps, threads = options.fps, options.threads

    def sampled(path: Path, rate: float = fps, **arguments: Any) -> _Reading:
        reader = open_frames(path, rate, threads=threads, **arguments)
        return _Reading(sum(1 for _ in reader), reader.packets_decoded)

    def converted(path: Path) -> _Reading:
        reader = open_frames(path, fps, threads=threads)
        return _Reading(sum(1 for frame in reader if letterbox(frame.image, options.size).size), reader.packets_decoded)

    return {
        "codec": lambda path: _decode_plainly(path, threads),
        "all": lambda path: _decode_every_frame(path, threads),
        "decode_all": lambda path: sampled(path, decodes_all=True),
        "sampled": sampled,
        "converted": converted,
        "letterboxed": lambda path: sampled(path, size=options.size),
        "sparse": lambda path: sampled(path, 1 / SPARSE_SECONDS, size=options.size),
    }


def measure_decoding(
    path: Path, options: VideoBenchOptions, report: Callable[[int, int], None] = lambda done, total: None
) -> VideoBenchResult:
    """Read the file in every mode, alternately; ``report`` receives ``(done, total)``. Raises ``VideoError``."""
    modes = make_modes(options)
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    readings: dict[str, _Reading] = {}
    with VideoFile(path) as file:
        info = file.info
    with peak_memory() as peak:
        for number in range(options.rounds):
            for place, (name, mode) in enumerate(modes.items(), start=1):
                start = time.perf_counter()
                readings[name] = mode(path)
                seconds[name].append(time.perf_counter() - start)
                report(number * len(modes) + place, options.rounds * len(modes))
    duration = info.duration or readings["codec"].frames / (info.fps or 25.0)
    results = {name: _summarise(values, seconds["codec"], duration, readings[name]) for name, values in seconds.items()}
    threads = decoder_threads(options.threads)
    return VideoBenchResult(info.codec or "", info.width, info.height, duration, info.fps, threads, peak[0], results)


def _summarise(seconds: list[float], codec: list[float], duration: float, reading: _Reading) -> ModeResult:
    ratio = median(limit / value for limit, value in zip(codec, seconds, strict=True))
    return ModeResult(median(seconds), duration / median(seconds), ratio, reading.frames, reading.packets)


def _decode_plainly(path: Path, threads: int | None) -> _Reading:
    frames = packets = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", decoder_threads(threads)
        for packet in container.demux(stream):
            packets += bool(packet.size)
            frames += sum(isinstance(frame, VideoFrame) for frame in packet.decode())
    return _Reading(frames, packets)


def _decode_every_frame(path: Path, threads: int | None) -> _Reading:
    with VideoFile(path, threads=threads) as file:
        return _Reading(sum(1 for _ in file.decode()), file.packets_decoded)


# --- a file to measure ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SyntheticVideo:
    """A test video: a moving pattern with noise, at 25 fps.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        width: Width in pixels, even.
        height: Height in pixels, even.
        seconds: Duration.
        group: Frames from one key frame to the next.
    """

    encoder: str = "libx264"
    width: int = 1280
    height: int = 720
    seconds: int = 20
    group: int = 250

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless all values are valid."""
        if min(self.width, self.height) < 16 or self.width % 2 or self.height % 2:
            raise OptionError(f"the size must be even and at least 16, got {self.width}x{self.height}")
        if self.seconds < 1 or self.group < 1:
            raise OptionError(f"seconds and group must be at least 1, got {self.seconds} and {self.group}")


@contextmanager
def synthetic_video(video: SyntheticVideo) -> Iterator[Path]:
    """Write a test video into a temporary folder, for the block. Raises ``OptionError`` without its encoder."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.mp4"
        try:
            with preserved_scheduling():
                _write(path, video)
        except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
            raise OptionError(f"the video cannot be made with {video.encoder} ({error}); use libx264") from error
        yield path


def _write(path: Path, video: SyntheticVideo) -> None:
    pattern = _pattern(video)
    with av.open(str(path), "w") as container:
        options = {"g": str(video.group), "preset": "veryfast"}
        stream = cast("VideoStream", container.add_stream(video.encoder, rate=25, options=options))
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for _ in range(25 * video.seconds):
            frame = pattern()
            frame.pts, frame.pict_type = None, PictureType.NONE  # the pattern's frames are all key frames
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pattern(video: SyntheticVideo) -> Callable[[], VideoFrame]:
    """Return a function that returns the next picture."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={video.width}x{video.height}:rate=25")
    noise, pixels = graph.add("noise", "alls=3:allf=t"), graph.add("format", "yuv420p")
    sink = graph.add("buffersink")
    source.link_to(noise)
    noise.link_to(pixels)
    pixels.link_to(sink)
    graph.configure()
    pull: Callable[[], Any] = graph.pull
    return pull

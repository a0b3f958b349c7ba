r"""Measure how often the domain check of a model warns: about files of other footage, and about rendered scenes.

    python scripts/measure_domain_check.py clips/ camera.mp4 --patterns --scenes 60 --seed 23

Folders are searched for video files. ``--patterns`` adds clips of FFmpeg's test patterns, and ``--scenes`` clips of rendered
scenes. Every clip is sampled and judged as in a session with nano; a line per file has its name and whether it has the
warning, and the last lines have the two rates. Files that cannot be decoded are listed and not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av

from mmduet.errors import MmduetError
from mmduet.model.presets import NANO
from mmduet.scenes.dataset import SplitSpec, make_clip
from mmduet.video import VideoWriter, open_frames
from mmduet.video.domain import DomainCheck

SUFFIXES = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}
# Sources of FFmpeg's filters, with the options that make them move.
PATTERNS = (
    "testsrc", "testsrc2", "smptebars", "smptehdbars", "pal75bars", "rgbtestsrc", "yuvtestsrc", "mandelbrot", "life=mold=10",
    "cellauto", "sierpinski", "gradients", "colorspectrum", "zoneplate=ku=8:kv=8:kt=4",
)  # fmt: skip
PATTERN_SECONDS, PATTERN_FPS, WIDTH, HEIGHT = 10, 8, 320, 240


def is_warned(path: Path) -> bool:
    """Return whether a session with nano warns about the file. Raises ``MmduetError`` if it has no frames to judge."""
    assert NANO.domain is not None
    check = DomainCheck(NANO.name, NANO.domain)
    for frame in open_frames(path, NANO.recommended.fps, size=NANO.vision.image_size):
        if check.add(NANO.domain.measure(frame.image), frame.time):
            return True
    return check.finish()


def report(paths: Iterable[Path], kind: str) -> str:
    """Print a line for each file, and return the rate of warnings."""
    judged = warned = 0
    for path in paths:
        try:
            found = is_warned(path)
        except MmduetError as error:
            print(f"unreadable  {path}: {error}")
            continue
        judged, warned = judged + 1, warned + found
        print(f"{'warning' if found else 'no warning':10}  {path}")
    return f"{kind}: {warned} of {judged} clips have the warning"


def video_files(places: list[Path]) -> Iterator[Path]:
    """Yield the given files, and the video files below the given folders."""
    for place in places:
        if place.is_dir():
            yield from sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        else:
            yield place


def pattern_clips(folder: Path) -> Iterator[Path]:
    """Write and yield a clip of each of FFmpeg's patterns."""
    for pattern in PATTERNS:
        path = folder / f"{pattern.partition('=')[0]}.mp4"
        with VideoWriter(path, WIDTH, HEIGHT, PATTERN_FPS) as writer:
            for frame in pattern_frames(pattern):
                writer.write(frame)
        yield path


def pattern_frames(pattern: str) -> Iterator[Any]:
    """Yield the frames of a pattern as RGB arrays."""
    name, _, options = pattern.partition("=")
    graph = av.filter.Graph()
    size = f"size={WIDTH}x{HEIGHT}:rate={PATTERN_FPS}"
    source = graph.add(name, f"{size}:{options}" if options else size)
    rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    source.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()
    for _ in range(PATTERN_SECONDS * PATTERN_FPS):
        frame: Any = graph.pull()
        yield frame.to_ndarray(format="rgb24")


def scene_clips(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Render and yield the clips of a test split."""
    (folder / "clips").mkdir(parents=True)
    for index in range(count):
        make_clip(folder, SplitSpec("test", count, seed), index)
        yield folder / "videos" / f"{index:05d}.mp4"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "footage", nargs="*", type=Path, help="video files, or folders of them, that are not rendered scenes"
    )
    parser.add_argument("--patterns", action="store_true", help="add clips of FFmpeg's test patterns")
    parser.add_argument("--scenes", type=int, default=0, metavar="N", help="number of rendered scenes (default: 0)")
    parser.add_argument("--seed", type=int, default=23, help="seed of the scenes (default: 23)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.footage:
            rates.append(report(video_files(options.footage), "other footage"))
        if options.patterns:
            rates.append(report(pattern_clips(folder), "FFmpeg's patterns"))
        if options.scenes:
            rates.append(report(scene_clips(folder / "scenes", options.scenes, options.seed), "rendered scenes"))
    print("\n".join(rates))


if __name__ == "__main__":
    main()

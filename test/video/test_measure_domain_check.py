"""``scripts/measure_domain_check.py`` lists files by the warning that they have, and counts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from footage import out_of_domain, scene_frames, write_clip

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "measure_domain_check.py"


def test_files_and_scenes_are_judged_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "clips" / "inner"
    folder.mkdir(parents=True)
    photo, title = (write_clip(folder / f"{name}.mp4", out_of_domain()[name]()) for name in ("photo", "title"))
    broken = folder / "broken.webm"
    broken.write_bytes(b"no video")
    scene = write_clip(tmp_path / "scene.mp4", [image for _, image in scene_frames(2, 5.0)])
    command = [sys.executable, SCRIPT, tmp_path / "clips", scene, "--scenes", "1", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert f"warning     {photo}" in lines
    assert f"warning     {title}" in lines
    assert f"no warning  {scene}" in lines
    assert any(line.startswith(f"unreadable  {broken}: ") for line in lines)
    assert lines[-2:] == [
        "other footage: 2 of 3 clips have the warning",
        "rendered scenes: 0 of 1 clips have the warning",
    ]

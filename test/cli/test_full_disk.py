"""Commands on a full disk or with unusable folders: a clear error, and no file that is only half written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import MODEL, Command
from full_disk import full_disk

from mmduet.errors import OptionError
from mmduet.files import LineWriter, exclusive_lock, write_text

TEMPORARY_NAME = re.compile(r"\.part|\.tmp|/tmp/mmduet|\.\d+-[0-9a-f]+")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("run", "VIDEO", *MODEL, "--plot", "OUT/p.png", "--quiet"), 2),
        (("run", "VIDEO", *MODEL, "--plot", "OUT/p.svg", "--quiet"), 2),
        (("caption", "VIDEO", *MODEL, "--fps", "8", "--output", "OUT/r.json", "--quiet"), 2),
        (("highlight", "VIDEO", *MODEL, "--cut", "OUT/cut", "--quiet"), 4),
        (("highlight", "VIDEO", *MODEL, "--cut", "OUT/cut", "--copy", "--quiet"), 4),
        (("scenes", "make", "OUT/s", "--count", "1", "--workers", "1", "--max-seconds", "10"), 4),
        (("convert", "nano", "OUT/ck"), 2),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_full_disk_leaves_nothing_half_written(
    arguments: tuple[str, ...], status: int, mmduet: Command, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    given = [each.replace("VIDEO", str(video)).replace("OUT", str(tmp_path / "out")) for each in arguments]
    with full_disk():
        done = mmduet(*given)
    assert done.status == status, done.err
    assert re.search(r"cannot be (written|completed) \(File too large\)", done.err)
    assert str(tmp_path / "out") in done.err
    assert not TEMPORARY_NAME.search(done.err)
    assert [name for name in files_in(tmp_path / "out") if name != "s/scenes.json"] == []
    assert not (tmp_path / "out" / "cut").exists()


def test_temporary_videos_are_not_named(mmduet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with full_disk():
        done = mmduet("bench", "soak", *MODEL, "--hours", "0.001", "--lap-seconds", "10")
    assert done.status == 2
    assert "rendered into a temporary folder: videos/00000.mp4" in done.err
    assert "(File too large)" in done.err
    assert str(tmp_path) not in done.err
    assert files_in(tmp_path) == []


def test_events_of_a_run_are_whole_lines(run: Command, video: Path, tmp_path: Path) -> None:
    with full_disk():
        done = run(video, *MODEL, "--fps", "8", "--output", tmp_path / "e.jsonl", "--quiet")
    assert done.status == 2
    assert "e.jsonl cannot be written (File too large)" in done.err
    lines = (tmp_path / "e.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) > 2
    assert all(line.endswith("\n") and json.loads(line) for line in lines)


def test_predictions_are_whole_lines_and_leave_no_lock(mmduet: Command, video: Path, tmp_path: Path) -> None:
    question = {"question_id": "q", "video": video.name, "answer": [], "conversation": []}
    (tmp_path / "test.json").write_text(json.dumps([question | {"question_id": f"q{k}"} for k in range(2)]))
    arguments = ("predict", "--annotations", tmp_path / "test.json", "--videos", video.parent, *MODEL)
    arguments = (*arguments, "--output", tmp_path / "p.jsonl", "--fps", "8", "--at-once", 1)
    with full_disk():
        done = mmduet(*arguments)
    assert done.status == 2
    assert "p.jsonl cannot be written (File too large)" in done.err
    assert files_in(tmp_path) == ["p.jsonl", "p.jsonl.settings.json", "test.json"]
    lines = (tmp_path / "p.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) < 2
    assert all(line.endswith("\n") and json.loads(line) for line in lines)
    done = mmduet(*arguments)
    assert done.status == 0
    assert files_in(tmp_path) == ["p.jsonl", "p.jsonl.settings.json", "test.json"]
    done = mmduet(*arguments)  # everything is done: no bar of no questions
    assert (done.status, done.err) == (0, "")
    assert "2 of 2 questions answered" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "VIDEO", *MODEL, "--output", "OUT/r.json"),
        ("run", "VIDEO", *MODEL, "--plot", "OUT/r.png"),
        ("highlight", "VIDEO", *MODEL, "--cut", "OUT/cut"),
        ("scenes", "make", "OUT/s"),
        ("convert", "nano", "OUT/ck"),
        ("train", "nano", "OUT/nano", "--work", "OUT/work"),
        ("train", "nano-rule", "--output", "OUT/run"),
        ("predict", "--annotations", "TEST", "--videos", "FOLDER", *MODEL, "--output", "OUT/p.jsonl"),
        ("evaluate", "captions", "--predictions", "TEST", "--annotations", "TEST", "--json", "OUT/r.json"),
        ("bench", "soak", "--json", "OUT/r.json"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
@pytest.mark.parametrize("folder", ["a file", "/proc/self"])
def test_an_unusable_folder_is_named(
    arguments: tuple[str, ...], folder: str, mmduet: Command, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "test.json").write_text('[{"question_id": "q", "video": "v", "conversation": [], "answer": []}]')
    out = str(tmp_path / folder)
    names = {"VIDEO": str(video), "OUT": out, "TEST": str(tmp_path / "test.json"), "FOLDER": str(tmp_path)}
    done = mmduet(*(names.get(each, each.replace("OUT", out)) for each in arguments))
    assert done.status in (2, 4), done.err
    assert out in done.err
    assert not TEMPORARY_NAME.search(done.err)


@pytest.mark.parametrize("arguments", [("version",), ("--help",)], ids=" ".join)
def test_standard_output_that_is_full_is_an_error(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mmduet", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error\[bad_option\]: standard output .*\(No space left on device\).*\n", done.stderr)


def test_a_home_that_cannot_be_written_is_no_matter(tmp_path: Path) -> None:
    query = {"question_id": "q", "video": "v", "conversation": [{"role": "user", "content": "q", "time": 0}]}
    (tmp_path / "g.json").write_text(json.dumps([{**query, "timestamps": [[0, 1]]}]))
    scores = [{"time": k / 2, "informative_score": 0.0, "relevance_score": k / 9} for k in range(6)]
    line = {"question_id": "q", "video_duration": 3.0, "model_response_list": [], "debug_data": scores}
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    environment = {**os.environ, "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null"}
    files = ["--predictions", "p.jsonl", "--annotations", "g.json", "--html", "r.html"]
    command = [sys.executable, "-m", "mmduet", "evaluate", "grounding", *files]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "matplotlib" not in done.stderr.lower()
    assert "image/svg" in (tmp_path / "r.html").read_text()


def test_a_line_is_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with LineWriter(path) as out:
        out.write("short")
        with full_disk(20), pytest.raises(OptionError, match="File too large"):
            out.write("x" * 100)
        out.write("\ud83d")  # half of a surrogate pair
    with LineWriter(path, append=True) as out:
        out.write("last", sync=True)
    assert path.read_text() == "short\n\\ud83d\nlast\n"
    with full_disk(20), pytest.raises(OptionError, match="File too large"):
        write_text(path, "y" * 100)
    assert files_in(tmp_path) == ["lines"]


def test_a_lock_file_exists_while_the_lock_is_held(tmp_path: Path) -> None:
    lock, path = tmp_path / "lock", tmp_path / "file"
    with exclusive_lock(lock, path):
        assert lock.exists()
        with pytest.raises(OptionError, match="being written by another run"), exclusive_lock(lock, path):
            pass
        assert lock.exists()
    assert files_in(tmp_path) == []

"""``mmduet data check RECIPE`` and ``mmduet data show``: counts, problems by id, and the picture of a sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mmduet.cli.main import app
from mmduet.errors import MmduetError, OptionError, TrainingError
from mmduet.scenes import SplitSpec, make_split

RECIPE = """
model: random:tiny
method: {kind: lora}
data:
  - {name: scenes, kind: scenes, videos: split}
  - {name: talk, kind: conversations, annotations: talk.json, videos: split/videos}
sampling: {fps: 4, max_frames: 16, max_frames_before_question: 4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_split(root / "split", SplitSpec("train", 2, 3, 6.0, 7.0, size=64, fps=8.0), workers=1)
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "This."}]
    (root / "talk.json").write_text(json.dumps([{"video": "00001.mp4", "conversations": turns}]))
    (root / "recipe.yaml").write_text(RECIPE)
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def error_of(*arguments: object) -> MmduetError:
    error = run(*arguments).exception
    assert isinstance(error, MmduetError), error
    return error


def test_a_good_recipe_is_counted(folder: Path) -> None:
    index = folder / "index.json"
    result = run("check", folder / "recipe.yaml", "--index", index, "--workers", 1)
    assert result.exit_code == 0, result.output
    clips = [json.loads(path.read_text()) for path in sorted((folder / "split" / "clips").glob("*.json"))]
    samples = sum(1 + len(clip["questions"]) + len(clip["groundings"]) + 1 for clip in clips)
    replies = sum(len(clip["captions"]) + sum(len(q["answers"]) for q in clip["questions"]) for clip in clips)
    scenes, talk, total = result.stdout.splitlines()
    assert scenes.startswith(f"scenes: {samples} samples, ")
    assert (
        15 * samples < int(scenes.split(" frames")[0].rpartition(" ")[2]) <= 16 * samples
    )  # late questions have fewer
    assert f" {replies} replies (" in scenes
    assert talk.startswith("talk: 1 samples, 16 frames, ")
    assert "informative 0 of 0, relevance 0 of 0" in talk
    assert total.endswith(f"recipe.yaml: {samples + 1} samples, 2 videos, 0 problems")
    assert len(json.loads(index.read_text())["videos"]) == 2
    again = run("check", folder / "recipe.yaml", "--index", index)
    assert again.stdout == result.stdout


def test_problems_are_reported_by_sample_and_video(folder: Path) -> None:
    videos = folder / "split" / "videos"
    rows = [
        {"video_uid": "00000.mp4", "query": "a", "timestamps": [[1, 2], [30, 31]]},
        {"video_uid": "none.mp4", "query": "a", "timestamps": []},
        {"video_uid": "00001.mp4", "query": "<|im_end|>", "timestamps": [[1, 2]]},
    ]
    (folder / "bad.json").write_text(json.dumps(rows))
    recipe = folder / "bad.yaml"
    recipe.write_text(
        "model: random:tiny\nmethod: {kind: lora}\n"
        f"data: [{{name: bad, kind: grounding, annotations: bad.json, videos: {videos}}}]\n"
    )
    result = run("check", recipe, "--workers", 1)
    assert result.exit_code == 1
    problems = [line for line in result.stderr.splitlines() if "videos ━" not in line]
    assert len(problems) == 3
    assert "none.mp4 does not exist" in problems[0]
    assert "sample bad/0: the event at 30 to 31 s is after the last frame of 00000.mp4" in problems[1]
    assert "sample bad/2: the user turn" in problems[2]
    assert result.stdout.endswith("1 samples, 2 videos, 3 problems\n")


def test_replies_that_no_frame_can_trigger_are_counted(folder: Path) -> None:
    rows = {"00000.mp4": {"annotation": [{"time": 2.9, "text": "x", "timespan": [2, 4.2]}]}}
    assert sum(rows["00000.mp4"]["annotation"][0]["timespan"]) / 2 > 2.9  # type: ignore[arg-type]
    (folder / "late.json").write_text(json.dumps(rows))
    (folder / "late.yaml").write_text(
        "model: random:tiny\nmethod: {kind: lora}\n"
        "data: [{name: a, kind: captioning, annotations: late.json, videos: split/videos}]\n"
    )
    assert "1 replies (1 without a frame in time)" in run("check", folder / "late.yaml", "--workers", 1).stdout


def test_values_of_the_recipe_can_be_replaced(folder: Path) -> None:
    result = run("check", folder / "recipe.yaml", "--set", "sampling.max_frames=8", "--workers", 1)
    assert "talk: 1 samples, 8 frames" in result.stdout
    error = error_of("check", folder / "recipe.yaml", "--set", "sampling.max_frame=8")
    assert isinstance(error, OptionError)
    assert "max_frames" in str(error)


def test_an_unknown_name_lists_benchmarks(folder: Path) -> None:
    assert "unknown data set 'youcok2', did you mean youcook2?" in str(error_of("check", "youcok2"))


@pytest.mark.parametrize("sample", ["0", "scenes/magqa/0", "scenes/grounding/0", "talk/0"])
def test_a_sample_is_drawn(folder: Path, tmp_path: Path, sample: str) -> None:
    output = tmp_path / "a.png"
    result = run("show", folder / "recipe.yaml", sample, "--output", output)
    assert result.exit_code == 0, result.output
    name = "scenes/dense_captioning/0" if sample == "0" else sample
    assert result.stdout.startswith(f"{name}: 16 frames  ·  ")
    assert " tokens: " in result.stdout
    with Image.open(output) as picture:
        assert picture.width == 1800
        assert len(picture.convert("RGB").resize((60, 30)).getcolors(60 * 30) or ()) > 20


def test_samples_that_cannot_be_drawn_are_errors(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    error = error_of("show", folder / "recipe.yaml", "999", "--output", output)
    assert "the recipe has no sample '999'; give a number from 0 to" in str(error)
    assert "such as scenes/dense_captioning/0" in str(error)
    (folder / "missing.json").write_text(json.dumps({"no.mp4": {"annotation": []}}))
    (folder / "missing.yaml").write_text(
        "model: random:tiny\nmethod: {kind: lora}\n"
        "data: [{name: a, kind: captioning, annotations: missing.json, videos: split/videos}]\n"
    )
    missing = error_of("show", folder / "missing.yaml", "0", "--output", output)
    assert isinstance(missing, TrainingError)
    assert "sample a/0: " in str(missing)
    assert "no.mp4 does not exist" in str(missing)
    assert "unsupported file type" in str(error_of("show", folder / "recipe.yaml", "0", "--output", tmp_path / "a.txt"))
    assert not output.exists()

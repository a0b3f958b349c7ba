"""``mmduet calibrate``: the fitted policy is written, drawn and reported, and does in the engine what the sweep predicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, in_process
from device_option import device
from PIL import Image

from mmduet.annotations.scene_files import read_clips
from mmduet.annotations.training_samples import Sample
from mmduet.cli.calibrate import manifest_directory
from mmduet.engine import Engine, recommended_options
from mmduet.errors import OptionError
from mmduet.evaluation.runs.calibration_streams import recipe_videos, sample_videos, scene_videos
from mmduet.evaluation.runs.scene_queries import prepare_frames, run_queries
from mmduet.events import Query
from mmduet.metrics.reply_matching import MatchCounts, TimedText, compare_replies
from mmduet.model import load_model
from mmduet.model.adapter_files import Base, save_adapter
from mmduet.model.source import FoundFiles, ModelSource
from mmduet.nano import BUNDLED
from mmduet.scenes import SplitSpec, make_split
from mmduet.spans import AnnotatedReply, Span
from mmduet.training.recipe import Recipe


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("val")
    make_split(folder, SplitSpec("val", 1, 5, 10.0, 10.5), workers=1)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a copy of nano whose policy hardly ever lets it speak."""
    directory = shutil.copytree(BUNDLED["nano"], tmp_path / "model")
    manifest = json.loads((directory / "mmduet.json").read_text())
    manifest["model"]["recommended"] |= {"speak": "threshold:0.999", "min_interval": 0.8}
    (directory / "mmduet.json").write_text(json.dumps(manifest))
    return directory


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "calibrate")


def read_recommended(model: Path) -> dict[str, Any]:
    recommended: dict[str, Any] = json.loads((model / "mmduet.json").read_text())["model"]["recommended"]
    return recommended


def narrate(model: Path, split: Path) -> MatchCounts:
    """Run the engine with the model's recommended policy, and compare its replies with the events."""
    engine = Engine(load_model(model, device=device()))
    recommended, total = engine.model.config.recommended, MatchCounts()
    for clip in read_clips(split):
        frames = prepare_frames(engine, split / "videos" / clip["video"], recommended.fps)
        (result,) = run_queries(engine, recommended_options(recommended), frames, [Query(recommended.query)])
        events = [TimedText(event["end"], event["text"]) for event in clip["events"]]
        total += compare_replies(events, [TimedText(reply.time, reply.text) for reply in result.replies])
    return total


def test_the_engine_does_what_the_calibration_predicts(
    calibrate: Command, model: Path, split: Path, tmp_path: Path
) -> None:
    before = narrate(model, split)
    done = calibrate(model, "--data", split, "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    assert done.status == 0, done.err
    figures, recommended, after = (
        json.loads((tmp_path / "a.json").read_text()),
        read_recommended(model),
        narrate(model, split),
    )
    for name, counts in (("before", before), ("after", after)):
        assert figures[name]["replies"] == counts.replies
        assert figures[name]["events"] == counts.events
        assert figures[name]["speak_f1"] == pytest.approx(counts.f1)
    assert after.f1 > before.f1
    assert after.f1 >= 0.8
    assert (recommended["speak"], recommended["score_heads"]) == (figures["after"]["speak"], ["informative"])
    assert recommended["min_interval"] == 0.8  # another one would not gain anything
    assert (recommended["window"], recommended["query"]) == (16, "Narrate the scene.")
    assert done.lines[0].startswith("before  threshold:0.999")
    assert f"speak-F1 {after.f1:.3f}" in done.lines[1]
    assert done.lines[-1] == f"the policy is written into {model}"
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1500


def test_the_policy_of_a_calibrated_adapter_is_used(calibrate: Command, split: Path, tmp_path: Path) -> None:
    """The adapter has nano's own heads, and another policy than nano."""
    nano = load_model("nano")
    heads = {f"heads.{name}.weight": head.weight for name, head in nano.network.heads.items()}
    silent = replace(nano.config.recommended, speak="threshold:0.9999")
    adapter = save_adapter(tmp_path / "adapter", heads, Base.of("nano", nano.source), silent, saved_modules=["heads"])
    done = calibrate(adapter, "--data", split)
    assert done.status == 0, done.err
    assert done.lines[0].startswith("before  threshold:0.9999")
    recommended = load_model(adapter).config.recommended
    assert recommended.speak == done.lines[1].split()[1]
    assert float(recommended.speak.removeprefix("threshold:")) < 0.9
    assert narrate(adapter, split).f1 >= 0.8


def test_a_dry_run_only_reports(calibrate: Command, split: Path) -> None:
    before = (BUNDLED["nano"] / "mmduet.json").read_bytes()
    done = calibrate("nano", "--data", split, "--dry-run", "--policy", "sum", "--queries", "questions")
    assert done.status == 0, done.err
    assert done.lines[1].startswith("after   sum:")
    assert "written" not in done.out
    assert (BUNDLED["nano"] / "mmduet.json").read_bytes() == before


@pytest.mark.parametrize("name", ["nano", "random:tiny"])
def test_a_model_that_is_not_the_users_cannot_be_changed(calibrate: Command, split: Path, name: str) -> None:
    done = calibrate(name, "--data", split)
    assert done.status == 2
    assert "use --dry-run to only report the policy" in done.err


def test_data_without_replies_are_an_error(calibrate: Command, model: Path, tmp_path: Path) -> None:
    done = calibrate(model, "--data", tmp_path)
    assert "create some with: mmduet scenes make" in done.err
    (tmp_path / "a.yaml").write_text("method: {kind: heads}\ndata: [{name: a, kind: scenes, videos: .}]\n")
    done = calibrate(model, "--data", tmp_path / "a.yaml")
    assert done.status == 2
    assert "the recipe has no validation data to calibrate on; set validation.data" in done.err


def test_the_policy_of_an_adapter_belongs_to_its_own_manifest(tmp_path: Path) -> None:
    source = ModelSource(FoundFiles(BUNDLED["nano"]), adapter=FoundFiles(tmp_path))
    with pytest.raises(OptionError, match=r"has no mmduet\.json"):
        manifest_directory(source)
    (tmp_path / "mmduet.json").write_text("{}")
    assert manifest_directory(source) == tmp_path
    with pytest.raises(OptionError, match="downloaded"):
        manifest_directory(ModelSource(FoundFiles(tmp_path, "owner/name@commit")))


def test_questions_are_scored_from_their_own_time_on(split: Path) -> None:
    (clip,) = read_clips(split)
    narration, *questions = scene_videos(split, "Go.", "all")
    assert narration.queries == (Query("Go."),)
    assert [span.start for span in narration.due] == [event["end"] for event in clip["events"]]
    assert all(span.end == pytest.approx(span.start + 1.0) for span in narration.due)
    assert [video.queries[0].time for video in questions] == [question["time"] for question in clip["questions"]]
    assert scene_videos(split, "Go.", "questions") == questions
    assert scene_videos(split, "Go.") == [narration]


def test_replies_of_training_samples_are_due_at_their_positive_frames() -> None:
    answers = (AnnotatedReply(6.0, "a", Span(2.0, 6.0)), AnnotatedReply(9.0, "b", Span(9.0, 9.0)))
    samples = [
        Sample("captioning", "a.mp4", answers=answers),
        Sample("qa", "b.mp4", (Query("Who?", 1.0),), answers[:1]),
        Sample("grounding", "c.mp4", (Query("red?"),), spans=(Span(1.0, 2.0),)),
    ]
    captions, question = sample_videos(samples, Path("videos"), "Go.", 2.0)
    assert captions.path == Path("videos/a.mp4")
    assert captions.queries == (Query("Go."),)
    assert captions.due == (Span(4.0, 6.0), Span(9.0, 10.0))
    assert question.queries == (Query("Who?", 1.0),)
    assert question.fps == 2.0


def test_the_validation_data_of_a_recipe_are_used(split: Path) -> None:
    def data_set(**values: object) -> Mapping[str, object]:
        return {"videos": split / "videos", **values}

    sets = [
        data_set(name="captions", kind="captioning", annotations=split / "dense_captioning.json", fps=1.0),
        data_set(name="questions", kind="magqa", annotations=split / "magqa.json"),
        data_set(name="spans", kind="grounding", annotations=split / "grounding.json"),
        {"name": "scenes", "kind": "scenes", "videos": split},
    ]
    recipe = Recipe.model_validate({"method": {"kind": "heads"}, "data": sets[:1], "validation": {"data": sets[1:]}})
    questions = len(read_clips(split)[0]["questions"])
    assert len(recipe_videos(recipe, "Go.")) == questions + 1
    recipe = recipe.model_copy(update={"validation": recipe.validation.model_copy(update={"data": recipe.data})})
    (captions,) = recipe_videos(recipe, "Go.")
    assert captions.path.is_file()
    assert captions.fps == 1.0

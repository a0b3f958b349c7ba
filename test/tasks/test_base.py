"""Shared by all tasks: merging turns with frames, stream results, and the configuration of a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mmduet.errors import EngineError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, QueryRead, Reply, Scores, SessionFailed, StreamEnded
from mmduet.options import SpeakOptions
from mmduet.tasks import DenseCaptioning, HighlightDetection, OnlineGrounding, QuestionAnswering, TemporalGrounding
from mmduet.tasks.base import ModelDefaults, RunConfig, StreamResult, Task, frame_end, stream_end
from mmduet.tasks.prompts import GROUNDING_TEMPLATE, NARRATION_QUERY
from mmduet.tasks.streaming import merge_by_time, run_stream, run_task

NANO = ModelDefaults(
    4.0, "Narrate the scene.", SpeakOptions("threshold", 0.65, min_interval=0.8, speak_before_query=False)
)
PUBLISHED = ModelDefaults(2.0, "", SpeakOptions())


def frame(time: float) -> Frame:
    return Frame(round(time), time, np.zeros((4, 4, 3), np.uint8))


def reply(number: int, time: float, text: str) -> Reply:
    return Reply(number, number, time, text, 3, "stop")


OUTPUTS: list[Output] = [
    QueryRead(Query("First."), 0.0),
    Scores(0, 0.0, 0.2, 0.6),
    Scores(1, 0.5, 0.8, 0.4, speak=True),
    reply(0, 0.5, "Yes."),
    QueryRead(Query("Too late?", 9.0), 9.0),
    reply(1, 0.5, "Yes, too late."),
    StreamEnded(2, 0.5),
]


class ScriptedStream:
    """A stream that emits given outputs and rejects items from ``closes_at`` seconds on."""

    def __init__(self, outputs: list[Output], closes_at: float = 99.0) -> None:
        self.script, self.closes_at = outputs, closes_at
        self.pushed: list[Frame | Query | Context] = []
        self.ended = self.closed = False

    def push(self, item: Frame | Query | Context) -> None:
        if item.time >= self.closes_at:
            self.closed = True
            raise SessionClosedError("closed")
        self.pushed.append(item)

    def end(self) -> None:
        if self.closed:
            raise SessionClosedError("closed")
        self.ended = True

    def outputs(self) -> Iterator[Output]:
        yield from self.script


def test_turns_are_placed_before_the_first_frame_at_or_after_their_time() -> None:
    turns = [Query("late", 9.0), Query("b", 0.5), Context("a", 0.0), Query("c", 0.5), Query("d", 0.75)]
    order = [getattr(item, "text", item.time) for item in merge_by_time(map(frame, (0.0, 0.5, 1.0)), turns)]
    assert order == ["a", 0.0, "b", "c", 0.5, "d", 1.0, "late"]


def test_stream_result_collects_scores_and_replies() -> None:
    result = StreamResult.from_outputs(OUTPUTS)
    assert result.times == [0.0, 0.5]
    assert result.duration == 1.0  # the last frame lasts as long as the one before it
    assert [(r.time, r.text) for r in result.replies] == [(0.5, "Yes."), (1.0, "Yes, too late.")]
    assert result.mean_scores(("relevance",)) == [0.6, 0.4]
    assert result.mean_scores(("informative", "relevance")) == pytest.approx([0.4, 0.6])
    assert StreamResult.from_outputs(OUTPUTS, 12.8).duration == 12.8
    assert StreamResult.from_outputs([StreamEnded(0, 0.0)]) == StreamResult((), (), 0.0)


def test_the_last_frame_lasts_as_long_as_the_one_before_it() -> None:
    assert [frame_end([1.0, 1.5, 3.0], k) for k in range(3)] == [1.5, 3.0, 4.5]
    assert (stream_end([2.0]), stream_end([])) == (2.0, 0.0)


def test_a_session_that_fails_raises_its_error() -> None:
    failed = SessionFailed("no_capacity", "the window is full", 7)
    with pytest.raises(EngineError, match="the window is full") as caught:
        StreamResult.from_outputs([*OUTPUTS[:3], failed])
    assert (caught.value.code, caught.value.exit_status) == ("no_capacity", 7)


def test_outputs_of_a_stream_that_closes_early_are_returned() -> None:
    stream = ScriptedStream(OUTPUTS, closes_at=1.0)
    assert list(run_stream(stream, map(frame, (0.0, 1.0, 2.0)), [Query("First.")])) == OUTPUTS
    assert len(stream.pushed) == 2
    assert not stream.ended


def test_task_runs_on_any_stream() -> None:
    stream = ScriptedStream(OUTPUTS)
    task = QuestionAnswering("First.")
    answers = run_task(task, task.run_config(NANO), stream, map(frame, (0.0, 1.0)))
    assert [(a.start, a.text) for a in answers.answers] == [(0.5, "Yes."), (1.0, "Yes, too late.")]
    assert stream.ended
    assert len(stream.pushed) == 3


def query_texts(task: Task[object], defaults: ModelDefaults) -> list[str]:
    return [query.text for query in task.run_config(defaults).queries]


def test_query_uses_the_models_default_text_or_the_papers_prompt() -> None:
    assert query_texts(DenseCaptioning(), NANO) == ["Narrate the scene."]
    assert query_texts(DenseCaptioning(), PUBLISHED) == [NARRATION_QUERY]
    assert query_texts(DenseCaptioning("What now?"), PUBLISHED) == ["What now?"]
    assert query_texts(HighlightDetection(), NANO) == ["Narrate the scene."]
    for task in (TemporalGrounding("a {dog}"), OnlineGrounding("a {dog}"), HighlightDetection("a {dog}")):
        assert query_texts(task, NANO) == ["a {dog}"]
        assert query_texts(task, PUBLISHED) == [GROUNDING_TEMPLATE.replace("{query}", "a {dog}")]
    assert QuestionAnswering("Who?", 3.0).run_config(NANO).queries == (Query("Who?", 3.0),)


@pytest.mark.parametrize("task", [DenseCaptioning(), QuestionAnswering("Who?")], ids=lambda task: task.name)
def test_tasks_that_need_replies_use_the_models_speak_policy(task: Task[object]) -> None:
    config = task.run_config(NANO)
    assert (config.fps, config.speak, config.max_frames) == (4.0, NANO.speak, None)


@pytest.mark.parametrize(
    "task", [TemporalGrounding("x"), OnlineGrounding("x"), HighlightDetection("x"), HighlightDetection()]
)
def test_tasks_that_need_scores_never_speak(task: Task[object]) -> None:
    config = task.run_config(NANO)
    assert (config.fps, config.speak.policy) == (4.0, "never")


@pytest.mark.parametrize(
    ("task", "fps", "frames", "speak"),
    [
        (DenseCaptioning(profile="paper"), 0.5, 200, "sum:2"),
        (QuestionAnswering("x", profile="paper"), 2.0, 400, "threshold:0.5"),
        (TemporalGrounding("x", "paper"), 2.0, 400, "never"),
        (OnlineGrounding("x", profile="paper"), 2.0, 400, "never"),
        (HighlightDetection("x", profile="paper"), 1.0, 400, "never"),
    ],
)
def test_paper_profile_uses_the_papers_settings(task: Task[object], fps: float, frames: int, speak: str) -> None:
    config = task.run_config(NANO)
    assert (config.fps, config.max_frames, config.profile, config.max_new_tokens) == (fps, frames, "paper", 200)
    expected = SpeakOptions.parse(speak)
    assert (config.speak.policy, config.speak.value) == (expected.policy, expected.value)
    assert config.speak.speak_before_query  # the paper's policies run from the first frame on


def test_run_config_is_converted_to_duet_settings() -> None:
    settings = RunConfig((), 4.0, NANO.speak).to_duet_settings()
    assert settings["speak"]["value"] == 0.65
    assert "window" not in settings  # the server's default applies
    assert RunConfig((), 4.0, NANO.speak, "paper").to_duet_settings()["window"] is None

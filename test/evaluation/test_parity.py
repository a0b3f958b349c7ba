"""``mmduet predict --profile paper`` equals the reference implementation on H.264 files, in every setting of the paper."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command, in_process
from llava import original_layout, random_llava
from peft import LoraConfig, get_peft_model
from reference import Reference, Settings, spread
from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionForConditionalGeneration

from mmduet.model.presets import byte_tokenizer
from mmduet.video import VideoWriter

HEADS = ("informative", "relevance")
IN_THE_WILD = {"informative": "response_head", "relevance": "related_head"}
LORA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class World:
    """A base model in the original layout, an adapter written by PEFT with heads, and the merged model."""

    def __init__(self, root: Path, seed: int) -> None:
        self.tokenizer = byte_tokenizer()
        base = random_llava()
        with torch.no_grad():  # replies that end, now and then
            base.lm_head.weight[self.tokenizer.end_id] *= 1.5
        self.base = original_layout(base, root / "base")
        self.heads = spread(HEADS, seed, 1.2)
        self.adapter = root / "adapter"
        self.model = self._tuned(base, seed)
        self._answers: dict[tuple[Settings, str], tuple[Reference, dict[str, Any]]] = {}

    def _tuned(self, base: LlavaOnevisionForConditionalGeneration, seed: int) -> LlavaOnevisionForConditionalGeneration:
        torch.manual_seed(seed)
        targets = rf".*language_model.*\.({'|'.join(LORA)})"
        config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
        tuned = get_peft_model(base, config)
        tuned.save_pretrained(self.adapter)
        path = self.adapter / "adapter_model.safetensors"
        pairs = {name.replace("language_model.", ""): tensor for name, tensor in load_file(path).items()}
        whole = {f"base_model.model.{IN_THE_WILD[k]}.weight": v for k, v in self.heads.items()}
        save_file(pairs | whole, path)
        return tuned.merge_and_unload().eval()

    def answer(self, task: Settings, question: dict[str, Any], videos: Path) -> tuple[Reference, dict[str, Any]]:
        """Return the reference after it has answered a question, and its line; computed once for all tests."""
        key = task, question["question_id"]
        if key not in self._answers:
            reference = Reference(self.model, self.heads, self.tokenizer, task)
            self._answers[key] = reference, reference.answer(question, videos / question["video"])
        return self._answers[key]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), seed=1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two videos: one at 30 frames per second with a drifting clock, one wide at 12.5 with an odd length."""
    folder = tmp_path_factory.mktemp("videos")
    for name, rate, frames, width, height in (("a.mp4", 30.0, 170, 96, 54), ("b.mp4", 12.5, 41, 48, 64)):
        noise = np.random.default_rng(len(name) + frames)
        with VideoWriter(folder / name, width, height, rate) as writer:
            for k in range(frames):
                field = noise.integers(0, 255, (6, 8, 3)).repeat(height // 6 + 1, 0).repeat(width // 8 + 1, 1)
                writer.write(np.roll(field, 3 * k, axis=1)[:height, :width].astype(np.uint8))
    return folder


def question(question_id: str, video: str, *turns: tuple[float, str]) -> dict[str, Any]:
    conversation = [{"role": "user", "content": text, "time": time} for time, text in turns]
    return {"question_id": question_id, "video": video, "conversation": conversation, "answer": []}


QUESTIONS = [
    question("at 0", "a.mp4", (0.0, "What happens ?")),
    question("late", "a.mp4", (2.2, "And then?")),
    question("two", "b.mp4", (0.0, "First."), (1.7, "Second.")),
    question("two at once, one too late", "b.mp4", (1.0, "One."), (1.0, "Two."), (99.0, "Never run.")),
    question("none", "b.mp4"),
]
TASKS = {
    "both heads, replies kept": Settings(2, 400, "threshold", 0.42, HEADS, keep=True, limit=12),
    "a sum, replies removed": Settings(2, 400, "sum", 1.0, limit=12),
    "a sum, replies kept": Settings(2, 400, "sum", 0.7, limit=12, keep=True),
    "relevance at one frame a second": Settings(1, 400, "never"),
    "a cap on frames, a rate that divides nothing": Settings(1.7, 4, "threshold", 0.4, HEADS, limit=12),
    "a reply after every frame, cut": Settings(2, 400, "threshold", 0.0, HEADS, keep=True, limit=2),
    "a reply after every frame, cut and removed": Settings(2, 400, "threshold", 0.0, HEADS, limit=2),
    "a penalty over all replies, kept": Settings(2, 400, "threshold", 0.0, keep=True, limit=8, penalty=1.3),
    "a penalty over all replies, removed": Settings(2, 400, "threshold", 0.0, limit=8, penalty=1.3),
    "the limit of two hundred tokens": Settings(0.5, 400, "threshold", 0.25, keep=True),
}


def flags(task: Settings) -> list[str]:
    speak = "never" if task.policy == "never" else f"{task.policy}:{task.value}"
    limit = [] if task.limit == 200 else ["--max-new-tokens", str(task.limit)]
    penalty = [] if task.penalty == 1 else ["--repetition-penalty", str(task.penalty)]
    return [
        "--fps", str(task.fps), "--max-frames", str(task.max_frames), "--speak", speak, "--score-heads", ",".join(task.heads),
        "--keep-replies" if task.keep else "--remove-replies", *limit, *penalty,
    ]  # fmt: skip


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, videos: Path) -> Command:
    return in_process(
        monkeypatch, capsys, "predict", "--profile", "paper",
        "--videos", videos, "--model", world.base, "--adapter", world.adapter,
    )  # fmt: skip


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_predictions_equal_those_of_the_reference(
    task: Settings, world: World, videos: Path, predict: Command, tmp_path: Path
) -> None:
    (tmp_path / "test.json").write_text(json.dumps(QUESTIONS))
    assert (
        predict("--annotations", tmp_path / "test.json", "--output", tmp_path / "pred.jsonl", *flags(task)).status == 0
    )
    lines = [json.loads(line) for line in (tmp_path / "pred.jsonl").read_text().splitlines()]
    for question, line in zip(QUESTIONS, lines, strict=True):
        assert_equal_lines(line, world.answer(task, question, videos)[1])


def assert_equal_lines(line: dict[str, Any], expected: dict[str, Any]) -> None:
    assert line.keys() == expected.keys() | {"damage"}  # an addition to the format of the reference
    assert line["question_id"] == expected["question_id"]
    assert line["video_duration"] == pytest.approx(expected["video_duration"])
    assert line["model_response_list"] == expected["model_response_list"]
    assert [row["time"] for row in line["debug_data"]] == [row["time"] for row in expected["debug_data"]]
    for head in HEADS:
        scores = [[row[f"{head}_score"] for row in rows["debug_data"]] for rows in (line, expected)]
        np.testing.assert_allclose(*scores, atol=1.001e-3, rtol=0)


def test_the_settings_cover_different_behaviour(world: World, videos: Path) -> None:
    """Scores differ, the model speaks at some frames only, replies end by token or by length, and reach the limit."""
    lengths, spoke, silent, scores = [], 0, 0, []
    for task in TASKS.values():
        reference, line = world.answer(task, QUESTIONS[0], videos)
        replies = sum(turn["role"] == "assistant" for turn in line["model_response_list"])
        spoke, silent = spoke + replies, silent + len(line["debug_data"]) - replies
        scores += [row["relevance_score"] for row in line["debug_data"]]
        lengths += reference.lengths
    assert np.std(scores) > 0.03
    assert min(spoke, silent) > 5
    assert 200 in lengths
    assert any(0 < length < 12 for length in lengths)


def test_the_settings_cover_every_state_before_a_frame_and_before_a_query(world: World, videos: Path) -> None:
    """Before it came nothing, the system turn, a query, a frame, or a reply that ended or was cut and was kept or removed."""
    steps = Counter[tuple[str, str]]()
    for task, question in product(TASKS.values(), QUESTIONS):
        steps += world.answer(task, question, videos)[0].steps
    after_replies = {"kept", "cut", "removed", "removed and cut"}
    assert {state for state, step in steps if step == "query"} == {"start", "stream", *after_replies}
    assert {state for state, step in steps if step == "frame"} == {"system", "user", "stream", *after_replies}

"""``mmduet predict --profile paper`` against the straight-line reference, on H.264 files, for all that the paper ran."""

from __future__ import annotations

import json
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
    """A base in the original layout, an adapter of real PEFT with heads, and the model they are together."""

    def __init__(self, root: Path, seed: int) -> None:
        self.tokenizer = byte_tokenizer()
        theirs = random_llava()
        with torch.no_grad():  # replies that end, now and then
            theirs.lm_head.weight[self.tokenizer.end_id] *= 1.5
        self.base = original_layout(theirs, root / "base")
        self.heads = spread(HEADS, seed, 1.2)
        self.adapter = root / "adapter"
        self.model = self._tuned(theirs, seed)

    def _tuned(
        self, theirs: LlavaOnevisionForConditionalGeneration, seed: int
    ) -> LlavaOnevisionForConditionalGeneration:
        torch.manual_seed(seed)
        targets = rf".*language_model.*\.({'|'.join(LORA)})"
        config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
        tuned = get_peft_model(theirs, config)
        tuned.save_pretrained(self.adapter)
        path = self.adapter / "adapter_model.safetensors"
        pairs = {name.replace("language_model.", ""): tensor for name, tensor in load_file(path).items()}
        whole = {f"base_model.model.{IN_THE_WILD[k]}.weight": v for k, v in self.heads.items()}
        save_file(pairs | whole, path)
        return tuned.merge_and_unload().eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), seed=1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames a second, whose clock drifts, and twelve and a half; wide, and odd in length."""
    folder = tmp_path_factory.mktemp("videos")
    for name, rate, frames, width, height in (("a.mp4", 30.0, 170, 96, 54), ("b.mp4", 12.5, 41, 48, 64)):
        noise = np.random.default_rng(len(name) + frames)
        with VideoWriter(folder / name, width, height, rate) as writer:
            for k in range(frames):
                field = noise.integers(0, 255, (6, 8, 3)).repeat(height // 6 + 1, 0).repeat(width // 8 + 1, 1)
                writer.write(np.roll(field, 3 * k, axis=1)[:height, :width].astype(np.uint8))
    return folder


def asked(question_id: str, video: str, *turns: tuple[float, str]) -> dict[str, Any]:
    conversation = [{"role": "user", "content": text, "time": time} for time, text in turns]
    return {"question_id": question_id, "video": video, "conversation": conversation, "answer": []}


QUESTIONS = [
    asked("at 0", "a.mp4", (0.0, "What happens ?")),
    asked("late", "a.mp4", (2.2, "And then?")),
    asked("two", "b.mp4", (0.0, "First."), (1.7, "Second.")),
    asked("two at once, one too late", "b.mp4", (1.0, "One."), (1.0, "Two."), (99.0, "Never run.")),
    asked("none", "b.mp4"),
]
TASKS = {
    "both heads, replies kept": Settings(2, 400, "threshold", 0.42, HEADS, keep=True, limit=12),
    "a sum, replies removed": Settings(2, 400, "sum", 1.0, limit=12),
    "a sum, replies kept": Settings(2, 400, "sum", 0.7, limit=12, keep=True),
    "relevance at one frame a second": Settings(1, 400, "never"),
    "a cap on frames, a rate that divides nothing": Settings(1.7, 4, "threshold", 0.4, HEADS, limit=12),
    "the limit of two hundred tokens": Settings(0.5, 400, "threshold", 0.25, keep=True),
}


def flags(task: Settings) -> list[str]:
    speak = "never" if task.policy == "never" else f"{task.policy}:{task.value}"
    limit = [] if task.limit == 200 else ["--max-new-tokens", str(task.limit)]
    return [
        "--fps", str(task.fps), "--max-frames", str(task.max_frames), "--speak", speak, "--score-heads", ",".join(task.heads),
        "--keep-replies" if task.keep else "--remove-replies", *limit,
    ]  # fmt: skip


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, videos: Path) -> Command:
    return in_process(
        monkeypatch, capsys, "predict", "--profile", "paper",
        "--videos", videos, "--model", world.base, "--adapter", world.adapter,
    )  # fmt: skip


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_predictions_are_the_references(
    task: Settings, world: World, videos: Path, predict: Command, tmp_path: Path
) -> None:
    (tmp_path / "test.json").write_text(json.dumps(QUESTIONS))
    assert (
        predict("--annotations", tmp_path / "test.json", "--output", tmp_path / "pred.jsonl", *flags(task)).status == 0
    )
    lines = [json.loads(line) for line in (tmp_path / "pred.jsonl").read_text().splitlines()]
    for question, line in zip(QUESTIONS, lines, strict=True):
        wanted = Reference(world.model, world.heads, world.tokenizer, task).answer(question, videos / question["video"])
        same(line, wanted)


def same(line: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert line.keys() == wanted.keys()
    assert line["question_id"] == wanted["question_id"]
    assert line["video_duration"] == pytest.approx(wanted["video_duration"])
    assert line["model_response_list"] == wanted["model_response_list"]
    assert [row["time"] for row in line["debug_data"]] == [row["time"] for row in wanted["debug_data"]]
    for head in HEADS:
        scores = [[row[f"{head}_score"] for row in rows["debug_data"]] for rows in (line, wanted)]
        np.testing.assert_allclose(*scores, atol=1.001e-3, rtol=0)


def test_tasks_distinguish_implementations(world: World, videos: Path) -> None:
    """Scores differ, some frames speak and some do not, replies end both ways, and the limit is reached."""
    lengths, spoke, silent, scores = [], 0, 0, []
    for task in TASKS.values():
        judge = Reference(world.model, world.heads, world.tokenizer, task)
        line = judge.answer(QUESTIONS[0], videos / "a.mp4")
        said = sum(turn["role"] == "assistant" for turn in line["model_response_list"])
        spoke, silent = spoke + said, silent + len(line["debug_data"]) - said
        scores += [row["relevance_score"] for row in line["debug_data"]]
        lengths += judge.lengths
    assert np.std(scores) > 0.03
    assert min(spoke, silent) > 5
    assert 200 in lengths
    assert any(0 < length < 12 for length in lengths)

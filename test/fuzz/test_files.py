"""Damaged annotations, predictions, settings and journals: they are read or rejected with a reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from fuzzing import apply_edits, apply_json_edits, edits, fuzz, json_edits, only_own_errors
from hypothesis import strategies as st

from mmduet.evaluation.run_benchmark import run_benchmark
from mmduet.server.config_loading import load_config
from mmduet.server.journal import JournalFolder
from mmduet.training.recipe_files import dump_recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = (ROOT / "test/protocol/data/session.journal").read_bytes()
QUESTION = {
    "question_id": 1, "video": "v.mp4", "conversation": [{"role": "user", "content": "q", "time": 0}],
    "answer": [{"content": "g", "time": [0, 5]}],
}  # fmt: skip
TURNS = {
    "question_id": 1, "model_response_list": [{"role": "assistant", "content": "g", "time": 1.0}],
    "debug_data": [{"time": 0.0, "informative_score": 0.5, "relevance_score": 0.1}, {"time": 1.0, "relevance_score": 0.9}],
}  # fmt: skip
QUERY = {
    "qid": 1, "vid": "v", "query": "x", "duration": 10, "relevant_windows": [[0, 2]], "relevant_clip_ids": [0],
    "saliency_scores": [[1, 2, 3]],
}  # fmt: skip
SUBMISSION = {"qid": 1, "pred_relevant_windows": [[0, 2, 0.5]], "pred_saliency_scores": [0.1, 0.2, 0.3, 0.4, 0.5]}
#: Benchmark, predictions, annotations, options.
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qvhighlights": (SUBMISSION, QUERY, {}),
    "grounding": ({"1": {"timestamp": [[0, 2]]}}, [{"question_id": 1, "video": "v.mp4", "timestamps": [[0, 2]]}], {}),
    "ovo": (
        {"backward": [{"id": 1, "task": "EPM", "response": "A", "ground_truth": "A"}]}, [{"id": 1, "task": "EPM", "gt": 0}], {},
    ),
    "magqa": (TURNS, [QUESTION], {}),
    "proactive": (TURNS, [QUESTION], {}),
}  # fmt: skip
SETTINGS = """
host = "127.0.0.1"
port = 8765
keys = ["a"]
max_sessions = 4
pull_hosts = ["example.org"]
pull_networks = ["10.0.0.0/8"]
pull_roots = ["/tmp"]
log_level = "info"
idle_timeout = 5.0
"""


def test_evaluation_files(tmp_path: Path, share: float) -> None:
    predictions, annotations = tmp_path / "p.json", tmp_path / "g.json"

    def write(path: Path, value: Any, changes: list, byte_changes: list) -> None:
        text = json.dumps(apply_json_edits(copy.deepcopy(value), changes))
        path.write_bytes(apply_edits(text.encode(), byte_changes))

    def check(case: tuple[str, list, list, list]) -> None:
        name, predicted, annotated, byte_changes = case
        predictions_value, annotations_value, options = CASES[name]
        write(predictions, predictions_value, predicted, byte_changes)
        write(annotations, annotations_value, annotated, [])
        with only_own_errors():
            run_benchmark(name, predictions, [annotations], **options)

    changes = st.just([]) | json_edits()
    cases = st.tuples(st.sampled_from(sorted(CASES)), changes, changes, st.just([]) | edits())
    fuzz("evaluation_files", share, cases, check, 20)


def test_settings_files(tmp_path: Path, share: float) -> None:
    path = tmp_path / "server.toml"
    words = (*SETTINGS.encode().split(b"\n"), b"= nan", b"= -1", b"= 1e99", b"[[x]]", b"'''")

    def check(changes: list) -> None:
        path.write_bytes(apply_edits(SETTINGS.encode(), changes))
        with only_own_errors():
            load_config(path)

    fuzz("settings_files", share, edits(words), check, 20)


def test_recipe_files(tmp_path: Path, share: float) -> None:
    path = tmp_path / "recipe.yaml"
    recipe = dump_recipe(load_recipe("lora")).encode()
    words = (
        *recipe.split(b"\n"),
        b": .nan",
        b": -1",
        b": 1e99",
        b"&a [*a]",
        b"<<: *a",
        b"!!set",
        b'"\\ud800"',
        b"? ",
        b"%YAML 9",
    )

    def check(changes: list) -> None:
        path.write_bytes(apply_edits(recipe, changes))
        with only_own_errors():
            load_recipe(path, ["sampling.fps=2", "data.0.weight=2"])

    fuzz("recipe_files", share, edits(words), check, 20)


def test_journals(tmp_path: Path, share: float) -> None:
    def check(changes: list) -> None:
        folder = tmp_path / "journal"
        folder.mkdir(exist_ok=True)
        (folder / "s.journal").write_bytes(apply_edits(JOURNAL, changes))
        with only_own_errors():
            journals = JournalFolder(folder)
            try:
                for _, journal in journals.recovered():
                    journal.close()
            finally:
                journals.close()
        for path in folder.iterdir():
            path.unlink()

    fuzz("journals", share, edits(), check, 15)

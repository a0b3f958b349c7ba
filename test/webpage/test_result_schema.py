"""The body of a request for a result, and the task that it describes."""

from __future__ import annotations

import json

import pytest

from mmduet.tasks import HighlightDetection, TemporalGrounding
from mmduet.webpage.result_schema import CreateResult, build_task


@pytest.mark.parametrize("task", ["caption", "ground", "highlight", "ask"])
def test_null_keeps_every_default(task: str) -> None:
    body = {"video": "clip:x", "task": task, "query": "a dog"}
    plain = CreateResult.model_validate_json(json.dumps(body))
    null = dict.fromkeys(("fps", "speak", "threshold", "max_highlights", "max_seconds", "time"))
    assert build_task(CreateResult.model_validate({**body, "options": null})) == build_task(plain)


def test_options_reach_the_task() -> None:
    body = {"video": "clip:x", "task": "ground", "query": " a dog ", "options": {"threshold": 0.3}}
    assert build_task(CreateResult.model_validate(body)) == TemporalGrounding("a dog", threshold=0.3)
    body = {"video": "clip:x", "task": "highlight", "options": {"max_highlights": 3, "max_seconds": 2.5}}
    assert build_task(CreateResult.model_validate(body)) == HighlightDetection(None, 3, max_seconds=2.5)

"""The body of a request for a result, and the task that it describes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from mmduet.errors import OptionError, ProtocolError
from mmduet.options import SpeakOptions
from mmduet.protocol.client_events import MAX_TEXT_CHARS
from mmduet.protocol.wire import INTEGRAL, ClientModel, NullMeans
from mmduet.tasks import DenseCaptioning, HighlightDetection, QuestionAnswering, Task, TemporalGrounding
from mmduet.tasks.grounding import DEFAULT_THRESHOLD

TaskName = Literal["caption", "ground", "highlight", "ask"]
MAX_FPS = 30.0
MAX_HIGHLIGHTS = 20
OPTIONS: dict[TaskName, frozenset[str]] = {
    "caption": frozenset({"fps", "speak"}),
    "ground": frozenset({"fps", "threshold"}),
    "highlight": frozenset({"fps", "max_highlights", "max_seconds"}),
    "ask": frozenset({"fps", "speak", "time"}),
}
"""The options of each task."""
NEEDS_QUERY: tuple[TaskName, ...] = ("ground", "ask")
EXAMPLE: JsonDict = {"video": "clip:crossing", "task": "ground", "query": "When is the red square in view?"}


class ResultOptions(ClientModel):
    """Options of a task; null keeps the default of the task or of the model. Times are in seconds."""

    fps: Annotated[float, Field(gt=0, le=MAX_FPS)] | None = None
    speak: Annotated[str, Field(max_length=100)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    max_highlights: Annotated[int, Field(ge=1, le=MAX_HIGHLIGHTS), INTEGRAL] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    time: Annotated[float, Field(ge=0)] | None = None


class CreateResult(ClientModel):
    """Body of ``POST results``: run ``task`` with ``query`` on ``video``, the URL of a clip's or an upload's source."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    video: Annotated[str, Field(min_length=1, max_length=200)]
    task: TaskName
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)] | None = None
    options: Annotated[ResultOptions, NullMeans(ResultOptions())] = ResultOptions()


def build_task(body: CreateResult) -> Task[Any]:
    """Return the task that a request describes. Raises ``ProtocolError`` that names the parameter."""
    query = None if body.query is None else body.query.strip()
    if query is None and body.task in NEEDS_QUERY:
        raise ProtocolError(f"the task {body.task!r} needs a query; add it", "missing_parameter", param="query")
    if query == "":
        raise ProtocolError("the query has no text; write what to look for or to ask", "invalid_value", param="query")
    _check_options(body)
    options = body.options
    match body.task:
        case "caption":
            return DenseCaptioning(query)
        case "ground":
            threshold = DEFAULT_THRESHOLD if options.threshold is None else options.threshold
            return TemporalGrounding(query or "", threshold=threshold)
        case "highlight":
            return HighlightDetection(query, options.max_highlights or 5, max_seconds=options.max_seconds)
        case "ask":
            return QuestionAnswering(query or "", options.time or 0.0)


def _check_options(body: CreateResult) -> None:
    """Raise ``ProtocolError`` for an option that the task does not have, and for an invalid speak policy."""
    for name in sorted(body.options.model_fields_set - OPTIONS[body.task]):
        if getattr(body.options, name) is not None:
            known = ", ".join(sorted(OPTIONS[body.task]))
            message = f"the task {body.task!r} has no option {name!r}; it has {known}"
            raise ProtocolError(message, "unsupported_parameter", param=f"options.{name}")
    if body.options.speak is not None:
        try:
            SpeakOptions.parse(body.options.speak)
        except OptionError as error:
            raise ProtocolError(str(error), "invalid_value", param="options.speak") from None

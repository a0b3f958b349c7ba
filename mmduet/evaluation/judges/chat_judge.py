"""A judge behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mmduet.client.openai_endpoint import OpenAIEndpoint
from mmduet.evaluation.judges.judge import JudgeRequest

KEY_VARIABLE = "MMDUET_JUDGE_KEY"
DEFAULT_SETTINGS = {"temperature": 0.0}  # greedy decoding


class ChatJudge:
    """The judge ``model`` at ``url``. Close it, or use it as a context manager.

    ``url`` is the endpoint's base address (``http://host:8000``, ``https://host/v1``) or that of its chat completions. The API
    key is read from ``key_variable``, by default from ``MMDUET_JUDGE_KEY`` if that is set. ``settings`` are further fields of
    each request (None: temperature 0). The other options are those of ``OpenAIEndpoint``, which may raise ``OptionError``.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str | None = None,
        timeout_seconds: float = 120.0,
        attempts: int = 6,
        backoff_seconds: float = 1.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._settings = DEFAULT_SETTINGS if settings is None else dict(settings)
        self._endpoint = OpenAIEndpoint(
            url,
            service="judge",
            key_variable=key_variable or KEY_VARIABLE,
            key_required=key_variable is not None,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
            backoff_seconds=backoff_seconds,
        )

    @property
    def model(self) -> str:
        """The name of the model at the endpoint."""
        return self._model

    def reply(self, request: JudgeRequest) -> str:
        """Return the judge's text; "" if every attempt gave an empty one. Blocks; several threads may call it.

        Raises:
            AuthError: the endpoint rejects the key.
            ServerError: the endpoint rejects the request or fails in every attempt.
        """
        return self._endpoint.chat(self._model, request.messages, self._settings)

    def close(self) -> None:
        """Close the connection; requests that wait for another attempt fail."""
        self._endpoint.close()

    def __enter__(self) -> Self:
        """Return the judge itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the judge."""
        self.close()

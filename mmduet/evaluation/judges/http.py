"""A judge behind an OpenAI-compatible endpoint: one POST per question, tried again where that can help."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from mmduet.errors import AuthError, OptionError, ServerError
from mmduet.evaluation.judges.judge import Question

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "MMDUET_JUDGE_KEY"
PASSING = {408, 409, 425, 429}  # and all from 500: another try may succeed
LONGEST_PAUSE = 60.0  # seconds
MOST_TOLD = 300  # characters of what a server says


class ChatJudge:
    """Asks ``model`` at ``url``: an endpoint's base (``http://host:8000``, ``https://host/v1``) or its full address.

    The key comes from the environment variable ``key_variable`` (by default ``MMDUET_JUDGE_KEY``, where that is set) and is
    in no message, file or log. ``settings`` go into every request beside model and messages; by default the judge does not
    sample. ``timeout`` and ``pause``, which doubles from try to try, are seconds. Close it, or use it in a ``with``.

    Raises ``OptionError`` for what cannot be used, and where httpx2 is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str | None = None,
        timeout: float = 120.0,
        attempts: int = 6,
        pause: float = 1.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if attempts < 1:
            raise OptionError(f"attempts is {attempts}; use 1 or more")
        self._address, self._model = address(url), model
        self._attempts, self._pause = attempts, pause
        self._settings = {"temperature": 0.0} if settings is None else dict(settings)
        self._key, self._closed = _key(key_variable), Event()
        self._key_variable = key_variable or KEY_VARIABLE
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = _library().Client(timeout=timeout, headers=headers)

    @property
    def model(self) -> str:
        """The name that the endpoint knows the judge by."""
        return self._model

    def reply(self, question: Question) -> str:
        """The judge's words; "" where it had none, however often it was asked. Blocks; several threads may ask.

        Raises ``AuthError`` for a key that is refused, and ``ServerError`` where the endpoint refuses the question, or has
        failed ``attempts`` times.
        """
        messages = [{"role": role, "content": _sendable(content)} for role, content in question.messages]
        body = {**self._settings, "model": self._model, "messages": messages}
        fault, pause, silent = "", self._pause, False
        for attempt in range(self._attempts):
            if attempt and self._closed.wait(min(pause * random.uniform(1.0, 1.25), LONGEST_PAUSE)):
                raise ServerError(f"the judge at {self._address} was closed while it was asked")
            answer = self._post(body)
            if isinstance(answer, str) and answer.strip():
                return answer
            silent = isinstance(answer, str)
            fault, asked_pause = ("an empty reply", None) if isinstance(answer, str) else answer
            pause = asked_pause or self._pause * 2**attempt
        if silent:
            return ""
        raise ServerError(
            f"the judge at {self._address} gave no reply in {self._attempts} tries (at last: {fault}); "
            "see that it runs, then run this again"
        )

    def close(self) -> None:
        """Nothing can be asked afterwards, and nobody waits for another try; a request under way still gets its reply."""
        self._closed.set()
        self._client.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _post(self, body: Mapping[str, Any]) -> str | tuple[str, float | None]:
        """The judge's words; or what went wrong this time, and the seconds that the server asks to wait."""
        library = _library()
        try:
            response = self._client.post(self._address, json=body)
        except (library.TransportError, library.DecodingError) as error:
            return type(error).__name__, None
        except RuntimeError:  # the client was closed between two tries
            raise ServerError(f"the judge at {self._address} was closed while it was asked") from None
        status = response.status_code
        if status in PASSING or status >= 500:
            return f"status {status}", _seconds(response.headers.get("retry-after"))
        if status != 200:
            raise self._refusal(response)
        words = _content(response)
        return ("no chat completion", None) if words is None else words

    def _refusal(self, response: httpx2.Response) -> ServerError:
        told = response.text.replace(self._key, "[key]") if self._key else response.text
        told = " ".join(told.split())[:MOST_TOLD]
        if response.status_code in (401, 403):
            return AuthError(
                f"the judge at {self._address} refuses the key ({response.status_code}); "
                f"put the right one into the environment variable {self._key_variable}"
            )
        return ServerError(
            f"the judge at {self._address} refuses the question ({response.status_code}: {told}); "
            "check address and model name"
        )


def address(url: str) -> str:
    """Where chat completions are asked for. Raises ``OptionError`` for what is no http(s) address, or holds a secret."""
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None or parts.query
        usable = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        raise OptionError("the judge's address cannot be read; write it as http://host:port/v1") from None
    if secret:
        raise OptionError(
            f"the judge's address (of {parts.hostname}) holds a user, a password or a query; "
            f"put the key into the environment variable {KEY_VARIABLE}"
        )
    if not usable:
        raise OptionError(f"the judge's address is {url!r}; write it as http://host:port/v1")
    base = url.rstrip("/")
    if base.endswith("/chat/completions"):
        return base
    return f"{base}/chat/completions" if parts.path.strip("/") else f"{base}/v1/chat/completions"


def _key(variable: str | None) -> str | None:
    """The key, None for an endpoint that takes none."""
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not key:
        raise OptionError(f"the environment variable {variable} is not set; put the judge's key into it")
    if not (key.isascii() and key.isprintable()):
        raise OptionError(f"the environment variable {variable or KEY_VARIABLE} holds no key; copy it anew")
    return key or None


def _library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise OptionError("a judge behind an address needs httpx2; run: pip install 'mmduet[server]'") from None
    return httpx2


def _sendable(text: str) -> str:
    """Without the half characters that JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _content(response: httpx2.Response) -> str | None:
    """The first choice's text; None where the body is no chat completion."""
    try:
        words = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return words if isinstance(words, str) else None


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None  # a date; our own pause will do

"""A blocking client for OpenAI-compatible HTTP endpoints: JSON requests with an API key, retries and backoff."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from mmduet.errors import AuthError, OptionError, ServerError
from mmduet.redaction import redact
from mmduet.text import shorten

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

CHAT_PATH = "chat/completions"
RETRYABLE_STATUSES = {408, 409, 425, 429}  # and all from 500 on
MAX_BACKOFF_SECONDS = 60.0
MAX_DETAIL_CHARS = 300  # of a response body in an error message


class InvalidResponseError(ValueError):
    """A response body without the expected content; another attempt may succeed."""


@dataclass(frozen=True)
class _Failure:
    """A failed attempt: its reason, and the seconds to wait that the server named, if any."""

    reason: str
    retry_after_seconds: float | None = None


class OpenAIEndpoint:
    """One OpenAI-compatible endpoint, used from any number of threads. Use as a context manager, or call ``close``.

    Args:
        url: The base address (``http://host:8000``, ``https://host/v1``) or that of its chat completions.
        service: What the endpoint is called in error messages.
        key_variable: Environment variable that holds the API key. The key appears in no message, file or log.
        key_required: Whether an unset ``key_variable`` is an error.
        timeout_seconds: Limit for one request.
        attempts: How often a request is sent before the endpoint is reported as failed.
        backoff_seconds: Pause before the second attempt; it doubles with each further one.

    Raises:
        OptionError: an argument or the key cannot be used, or httpx2 is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        key_variable: str,
        key_required: bool = False,
        timeout_seconds: float = 120.0,
        attempts: int = 6,
        backoff_seconds: float = 1.0,
    ) -> None:
        if attempts < 1:
            raise OptionError(f"attempts must be at least 1, got {attempts}")
        self._service, self._base_url = service, base_url(url, service, key_variable)
        self._key_variable, self._key = key_variable, _read_key(key_variable, service, key_required)
        self._attempts, self._backoff_seconds = attempts, backoff_seconds
        self._closed = Event()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = _import_httpx2(service).Client(timeout=timeout_seconds, headers=headers)

    def chat(self, model: str, messages: Sequence[tuple[str, str]], settings: Mapping[str, Any]) -> str:
        """Return the reply of ``model`` to ``messages``, pairs of role and content; "" if every attempt gave no text.

        ``settings`` are further fields of the request. Raises as ``post`` does.
        """
        contents = [{"role": role, "content": _encodable(content)} for role, content in messages]
        body = {**settings, "model": model, "messages": contents}
        return self.post(CHAT_PATH, body, parse_chat_completion, accept=lambda text: bool(text.strip()))

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        parse: Callable[[Any], T],
        accept: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Send ``body`` to ``path`` below the base address and return what ``parse`` makes of the JSON response.

        Connection errors, overload (429, 5xx) and responses that ``parse`` rejects with ``InvalidResponseError`` are
        retried; so are results that ``accept`` rejects, except in the last attempt, whose result is returned.

        Raises:
            AuthError: the endpoint rejects the key.
            ServerError: the endpoint rejects the request, has failed ``attempts`` times, or was closed meanwhile.
        """
        url, failure = f"{self._base_url}/{path}", _Failure("")
        for attempt in range(self._attempts):
            if attempt:
                self._wait(url, failure.retry_after_seconds or self._backoff_seconds * 2 ** (attempt - 1))
            result = self._attempt(url, body, parse)
            if isinstance(result, _Failure):
                failure = result
            elif accept(result) or attempt == self._attempts - 1:
                return result
            else:
                failure = _Failure("an empty reply")
        raise ServerError(
            f"the {self._service} at {url} failed {self._attempts} times (last: {failure.reason}); "
            "check that it is running, then run this again"
        )

    def close(self) -> None:
        """End all pauses between attempts and refuse further requests. A request under way still gets its response."""
        self._closed.set()
        self._client.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def _wait(self, url: str, seconds: float) -> None:
        if self._closed.wait(min(seconds * random.uniform(1.0, 1.25), MAX_BACKOFF_SECONDS)):
            raise self._closed_error(url)

    def _attempt(self, url: str, body: Mapping[str, Any], parse: Callable[[Any], T]) -> T | _Failure:
        """Send one request. Failures that may pass are returned, all others raised."""
        httpx2 = _import_httpx2(self._service)
        try:
            response = self._client.post(url, json=body)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return _Failure(type(error).__name__)
        except RuntimeError:  # the client was closed between two attempts
            raise self._closed_error(url) from None
        status = response.status_code
        if status in RETRYABLE_STATUSES or status >= 500:
            return _Failure(f"status {status}", _retry_after_seconds(response.headers.get("retry-after")))
        if status != 200:
            raise self._rejection(url, response)
        try:
            return parse(response.json())
        except ValueError as error:  # a body that is not JSON, too
            return _Failure(str(error) if isinstance(error, InvalidResponseError) else "a response that is not JSON")

    def _rejection(self, url: str, response: httpx2.Response) -> ServerError:
        if response.status_code in (401, 403):
            return AuthError(
                f"the {self._service} at {url} rejected the API key (status {response.status_code}); "
                f"set the environment variable {self._key_variable} to a valid key"
            )
        if response.has_redirect_location:
            return ServerError(
                f"the {self._service} at {url} redirects to {shorten(redact(response.headers['location']))}; use that address"
            )
        detail = response.text.replace(self._key, "[key]") if self._key else response.text
        detail = " ".join(detail.split())[:MAX_DETAIL_CHARS]
        return ServerError(
            f"the {self._service} at {url} rejected the request (status {response.status_code}: {detail}); "
            "check the address and the model name"
        )

    def _closed_error(self, url: str) -> ServerError:
        return ServerError(f"the connection to the {self._service} at {url} was closed during a request")


def base_url(url: str, service: str, key_variable: str) -> str:
    """Return the address below which the endpoint's paths lie.

    A bare host gets ``/v1``. Raises ``OptionError`` for an invalid address, and for one that contains a secret.
    """
    try:
        parts = urlsplit(url)
        has_secret = parts.username is not None or parts.password is not None or parts.query
        is_valid = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        raise OptionError(f"the {service}'s address cannot be parsed; expected http://host:port/v1") from None
    if has_secret:
        raise OptionError(
            f"the {service}'s address (host {parts.hostname}) contains a user, a password or a query; "
            f"put the API key into the environment variable {key_variable}"
        )
    if not is_valid:
        raise OptionError(f"the {service}'s address is {url!r}; expected http://host:port/v1")
    base = url.rstrip("/")
    if base.endswith(f"/{CHAT_PATH}"):
        return base.removesuffix(f"/{CHAT_PATH}")
    return base if parts.path.strip("/") else f"{base}/v1"


def parse_chat_completion(response: Any) -> str:
    """Return the text of a chat completion's first choice. Raises ``InvalidResponseError``."""
    try:
        text = response["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise InvalidResponseError("a response that is not a chat completion")
    return text


def _read_key(variable: str, service: str, required: bool) -> str | None:
    """Return the API key, or None for an endpoint without one."""
    key = os.environ.get(variable, "").strip()
    if required and not key:
        raise OptionError(f"the environment variable {variable} is not set; put the {service}'s API key into it")
    if not (key.isascii() and key.isprintable()):
        raise OptionError(f"the environment variable {variable} does not contain a valid API key; copy the key again")
    return key or None


def _import_httpx2(service: str) -> Any:
    try:
        import httpx2
    except ImportError:
        raise OptionError(f"a {service} at an address needs httpx2; run: pip install 'mmduet[server]'") from None
    return httpx2


def _encodable(text: str) -> str:
    """Replace unpaired surrogates, which JSON may contain and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for none or for a date, where the backoff applies."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None

"""The schema of the server's settings."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    SettingsConfigDict,
)

from mmduet.protocol.limits import KeyLimits
from mmduet.protocol.session.limits import SessionLimits
from mmduet.server.environment import ENV_PREFIX
from mmduet.server.url_policy import UrlPolicy
from mmduet.video.webcam import is_webcam

PositiveNumber = Annotated[FiniteFloat, Field(gt=0)]
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerConfig(BaseSettings):
    """Every setting of a server, with its description for ``docs/settings.md``. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True, env_ignore_empty=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on. A non-loopback address requires `keys`.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    model: str = Field(
        default="nano",
        description="`nano`, `random:SIZE`, a checkpoint directory, or `OWNER/NAME` on the Hugging Face hub.",
    )
    adapter: Path | None = Field(
        default=None, description="LoRA adapter to merge into the model: a directory, or `OWNER/NAME` on the hub."
    )
    adapters: Annotated[dict[str, Path], NoDecode] = Field(
        default={},
        description="LoRA adapters, by name, that a session can select with `duet.adapter`; values as for `adapter`.",
    )
    device: str = Field(
        default="auto",
        description="Device that the model runs on: `cpu`, `cuda`, `cuda:N`, `mps` (experimental), or `auto` for CUDA if there "
        "is a device, else the CPU.",
    )
    dtype: Literal["auto", "stored", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Data type of weights and computation (`auto`: `float32` on a CPU for up to a billion parameters, else as "
        "stored)",
    )
    attention: Literal["auto", "loop", "padded", "products", "varlen"] = Field(
        default="auto",
        description="How attention over the streams of a step is computed; `products` is faster and approximate",
    )
    kv_dtype: Literal["auto", "fp8"] = Field(
        default="auto",
        description="Data type in which keys and values are stored (`auto`: that of the model); `fp8` takes a half or a "
        "quarter of the memory and changes scores a little",
    )
    quantized: Literal["int8", "nf4", "fp8"] | None = Field(
        default=None,
        description="Quantize the weights of the language model: `fp8`, or `int8` or `nf4`, which need `mmduet[quant]`.",
    )
    quantized_tower: Literal["int8", "fp8"] | None = Field(
        default=None, description="Quantize the weights of the vision tower: `int8` or `fp8`."
    )
    allow_pickle: bool = Field(
        default=False, description="Also read `.bin` weights, which can run code; only use trusted files."
    )
    threads: int | None = Field(default=None, ge=1, description="Number of CPU threads; by default one per core.")
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="API keys. Without keys the server only listens on loopback."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins whose pages may connect, over WebSockets and HTTP (CORS); `*` allows any."
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate chain; the server then uses TLS (https and wss)."
    )
    tls_key: Path | None = Field(
        default=None,
        description="PEM file of the certificate's private key; by default in the file of the certificate.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are used. "
        "Requires `keys`.",
    )
    root_path: str = Field(
        default="", description="Path prefix under which a reverse proxy publishes the server, such as `/mmduet`."
    )
    max_sessions: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of sessions; by default as many as fit into `kv_memory_mb` and the file descriptor limit.",
    )
    max_sessions_per_key: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of sessions per API key and its client secrets together; by default half of all sessions, "
        "and unlimited without keys.",
    )
    max_sessions_per_client_secret: int | None = Field(
        default=None, ge=1, description="Maximum number of sessions per client secret; unlimited by default."
    )
    max_sources_per_key: int | None = Field(
        default=None, ge=1, description="Maximum number of sources per API key that the server reads at a time."
    )
    frames_per_second_per_key: PositiveNumber | None = Field(
        default=None, description="Frames to be scored per second and API key; more are dropped as `rate`."
    )
    frames_per_second_per_client_secret: PositiveNumber | None = Field(
        default=None, description="Frames to be scored per second and client secret; more are dropped as `rate`."
    )
    bytes_per_second_per_key: PositiveNumber | None = Field(
        default=None, description="Bytes to be received per second and API key; more are read more slowly."
    )
    tokens_per_second_per_key: PositiveNumber | None = Field(
        default=None, description="Tokens to be generated per second and API key; replies end there."
    )
    key_burst_seconds: PositiveNumber = Field(
        default=10.0, description="How many seconds of a rate per API key may be used at once."
    )
    max_queued: int = Field(default=64, ge=0, description="Clients that may wait for a session at a time (`?wait=`).")
    max_utilization: float = Field(
        default=0.9,
        gt=0,
        description="Share of the engine's measured capacity that sessions may use before new ones are refused; "
        "`inf` admits as many as fit into memory.",
    )
    max_frame_age: float = Field(
        default=1.0,
        gt=0,
        description="How long a frame of a live stream may wait before it is dropped, in seconds. "
        "A session can change it with `duet.max_frame_age`.",
    )
    kv_memory_mb: int | None = Field(
        default=None,
        ge=1,
        description="KV memory for all sessions, in MiB; by default half of the memory that is free on the host, or 85 % of "
        "that of the model's GPU. Limits of containers count.",
    )
    batching_wait: bool = Field(
        default=False,
        description="Begin a step up to 10 ms later if more streams are about to have work. The device computes in fewer "
        "and larger steps and is idle for longer, but frames are scored later.",
    )
    max_message_bytes: int = Field(
        default=4 << 20, ge=1024, description="Maximum size of a WebSocket message; a larger one closes the socket."
    )
    max_request_bytes: int = Field(
        default=32 << 20, ge=1024, description="Maximum size of a chat completion request body."
    )
    max_picture_pixels: int = Field(
        default=4096 * 4096, ge=1, description="Maximum pixels of an image or frame, checked before decoding."
    )
    max_waiting_frames: int = Field(
        default=32, ge=1, description="Maximum queued frames per session; the oldest are dropped beyond that."
    )
    max_waiting_turns: int = Field(
        default=64, ge=1, description="Maximum queued turns per session; more are rejected with an error."
    )
    messages_per_second: float = Field(
        default=500.0, gt=0, description="Sustained rate limit for messages of one session."
    )
    message_burst: int = Field(default=2000, ge=1, description="Messages a session may send above that rate at once.")
    log_events: int = Field(default=4096, ge=16, description="Events kept per session for clients that reconnect.")
    log_bytes: int = Field(default=4 << 20, ge=4096, description="Maximum characters of the events kept per session.")
    time_to_live: float = Field(
        default=60.0, ge=0, description="How long a session waits for a disconnected client, in seconds."
    )
    journal: Path | None = Field(
        default=None,
        description="Directory for session journals, with which sessions survive a restart. Off by default.",
    )
    idle_timeout: float = Field(
        default=600.0, gt=0, description="How long a connected client may send nothing, in seconds."
    )
    send_timeout: float = Field(
        default=10.0, gt=0, description="How long sending one event may take before the socket is closed, in seconds."
    )
    ping_interval: float = Field(
        default=20.0, gt=0, description="Time between WebSocket pings, and the timeout for a pong, in seconds."
    )
    drain_seconds: float = Field(
        default=20.0, ge=0, description="How long replies may take to finish after SIGTERM, in seconds."
    )
    client_secret_seconds: float = Field(
        default=60.0, gt=0, description="How long a client secret is valid, in seconds. It can be renewed for 24 hours."
    )
    pull_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts the server may fetch from; `*.example.org` for subdomains, `*` for any host.",
    )
    pull_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Private networks that those hosts may be in, such as `192.168.1.0/24`."
    )
    pull_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Directories the server may read video files from. They must exist when it starts."
    )
    pull_webcams: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Webcams of this machine that clients may open, such as `webcam` or `webcam:1`."
    )
    max_download_bytes: int = Field(default=256 << 20, ge=1, description="Maximum size of a file the server fetches.")
    max_chat_frames: int = Field(
        default=512,
        ge=1,
        description="Maximum number of frames in a chat completion; longer videos are sampled more slowly.",
    )
    page: bool = Field(default=False, description="Serve the live page at `/page/`; needs `mmduet[demo]`.")
    public: bool = Field(
        default=False,
        description="Let visitors use the live page without an API key. Requires `page`, `max_sessions_per_client_secret` and "
        "`frames_per_second_per_client_secret`.",
    )
    max_upload_bytes: int = Field(
        default=256 << 20, ge=1, description="Maximum size of a video that a visitor of the live page uploads."
    )
    max_upload_seconds: float = Field(
        default=3600.0, gt=0, description="Maximum duration of an uploaded video, in seconds."
    )
    max_uploads_per_visitor: int = Field(
        default=4, ge=1, description="Uploaded videos that the live page keeps per visitor."
    )
    upload_lifetime: float = Field(
        default=1800.0, gt=0, description="How long an uploaded video is kept after its last use, in seconds."
    )
    tracing: bool = Field(default=False, description="Export OpenTelemetry spans to `OTEL_EXPORTER_OTLP_ENDPOINT`.")
    slow_step_seconds: float = Field(
        default=1.0, gt=0, description="Log a warning about an engine step that takes longer, in seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level to log")
    log_json: bool = Field(default=False, description="Log one JSON object per line.")

    @property
    def session_limits(self) -> SessionLimits:
        """Return the limits of one session's queue and message rate."""
        return SessionLimits(
            self.max_waiting_frames, self.max_waiting_turns, self.messages_per_second, self.message_burst
        )

    @property
    def key_limits(self) -> KeyLimits:
        """Return the limits of one API key."""
        return KeyLimits(
            max_sessions=self.max_sessions_per_key,
            max_sources=self.max_sources_per_key,
            frames_per_second=self.frames_per_second_per_key,
            bytes_per_second=self.bytes_per_second_per_key,
            tokens_per_second=self.tokens_per_second_per_key,
            burst_s=self.key_burst_seconds,
        )

    @property
    def url_policy(self) -> UrlPolicy:
        """Return what the server may access for clients."""
        return UrlPolicy(self.pull_hosts, self.pull_networks, self.pull_roots, self.pull_webcams)

    @property
    def allows_sources(self) -> bool:
        """Return whether clients may let the server read any source."""
        return bool(self.pull_hosts or self.pull_roots or self.pull_webcams)

    @field_validator("pull_networks", "trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)  # raises ValueError with the network in its message
        return value

    @field_validator("pull_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not re.fullmatch(r"\*|(\*\.)?[^\s/:@*]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*", host, re.IGNORECASE):
                raise ValueError(f"it must be a host name without scheme and port, such as *.example.org, got {host!r}")
        return value

    @field_validator("pull_roots")
    @classmethod
    def _check_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in value:
            if not root.is_dir():
                raise ValueError(f"{str(root)!r} is not a directory; create or mount it first, or correct the name")
        return value

    @field_validator("pull_webcams")
    @classmethod
    def _check_webcams(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not is_webcam(name):
                raise ValueError(f"it must be webcam, webcam:NUMBER or webcam:DEVICE, got {name!r}")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _normalize_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Return the origins as browsers send them: in lower case, without a slash at the end."""
        for origin in value:
            if origin not in ("*", "null") and not re.fullmatch(
                r"[a-z][a-z0-9+.-]*://[^/\s]+/?", origin, re.IGNORECASE
            ):
                raise ValueError(f"it must be an origin such as https://page.example, got {origin!r}")
        return tuple(origin.lower().rstrip("/") for origin in value)

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        if not re.fullmatch(r"(/[\w.~-]+)*/?", value, re.ASCII):
            raise ValueError(f"it must be a path such as /mmduet, got {value!r}")
        return value.rstrip("/")

    @field_validator("adapters", mode="before")
    @classmethod
    def _parse_adapters(cls, value: Any) -> Any:
        """Convert ``NAME=DIR`` (a list, or separated by commas) or a JSON object to directories by name."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            return json.loads(value)
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return dict(parse_adapter(text) for text in value) if isinstance(value, list) else value

    @field_validator(
        "keys",
        "allowed_origins",
        "trusted_proxies",
        "pull_hosts",
        "pull_networks",
        "pull_roots",
        "pull_webcams",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        """Split ``a, b`` from the environment into two values."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def parse_adapter(text: Any) -> tuple[str, Path]:
    """Return name and directory of ``NAME=DIR``. Raises ``ValueError``."""
    name, separator, path = str(text).partition("=")
    if not (name and separator and path):
        raise ValueError(f"an adapter must have the form NAME=DIR (cooking=adapters/cooking), got {text!r}")
    return name, Path(path)

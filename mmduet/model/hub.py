"""Download models from the Hugging Face hub into its own cache, only the files that are needed.

``huggingface_hub`` reads its settings from the environment: ``HF_HOME`` (the cache), ``HF_TOKEN``, ``HF_HUB_OFFLINE``,
``HF_ENDPOINT``. It shows progress on a terminal and resumes broken transfers; files that are complete are not fetched again.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.errors import DownloadError, MmduetError, ModelNotFoundError
from mmduet.files import is_disk_error

PREFIX = "hf:"
HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?")
TIMEOUT_SECONDS = 10.0
TOO_MANY_REQUESTS = 429
GIB = 2**30
Select = Callable[[Collection[str]], list[str]]  # from the names of a repository's files to those that are needed

logger = logging.getLogger(__name__)
_show_progress = ContextVar("show_progress", default=True)


@dataclass(frozen=True)
class HubId:
    """A model on the hub: ``owner/name`` and a branch, tag or commit; None is the default branch.

    ``is_certain`` is false if the text could also have been the name of a directory.
    """

    repository: str
    revision: str | None = None
    is_certain: bool = False

    def __str__(self) -> str:
        """Return the id as it is written."""
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """Parse ``[hf:]OWNER/NAME[@REVISION]``. Return None for other texts; raise ``ModelNotFoundError`` after ``hf:``."""
        match = HUB_ID.fullmatch(text.removeprefix(PREFIX))
        if match is None and text.startswith(PREFIX):
            raise ModelNotFoundError(
                f"a model on the hub is named hf:OWNER/NAME or hf:OWNER/NAME@REVISION, got {text!r}"
            )
        return None if match is None else cls(match["repository"], match["revision"], text.startswith(PREFIX))


def fetch(hub_id: HubId, select: Select) -> Path:
    """Download the selected files and return their folder, which has the name of the commit.

    Without a connection, what an earlier call has downloaded is used.

    Raises ``ModelNotFoundError`` if there is no such repository or revision, ``DownloadError`` if it cannot be downloaded.
    """
    with _as_download_error(hub_id):
        import huggingface_hub as hub

        try:
            info = hub.HfApi().model_info(
                hub_id.repository, revision=hub_id.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
        except hub.errors.HfHubHTTPError as error:
            if error.response.status_code < 500 and error.response.status_code != TOO_MANY_REQUESTS:
                raise
            return _cached(hub_id, select, error)
        except _connection_errors() as error:
            return _cached(hub_id, select, error)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = select(sizes)
        _check_space(hub_id, {name: sizes[name] for name in names}, info.sha)
        return _download(hub_id, names)


@contextmanager
def without_progress() -> Iterator[None]:
    """Show no progress of downloads in the block."""
    token = _show_progress.set(False)
    try:
        yield
    finally:
        _show_progress.reset(token)


def _download(hub_id: HubId, names: Collection[str], offline: bool = False) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.utils.tqdm import tqdm

    hidden = not _show_progress.get()

    class TerminalBar(tqdm):
        """A progress bar that is shown on terminals only."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": options.get("disable") or hidden or None})  # type: ignore[no-untyped-call]

    patterns = [re.sub(r"([*?\[])", r"[\1]", name) for name in names]
    return Path(
        hub.snapshot_download(
            hub_id.repository,
            revision=hub_id.revision,
            allow_patterns=patterns,
            local_files_only=offline,
            tqdm_class=TerminalBar,
        )
    )


def _cached(hub_id: HubId, select: Select, reason: Exception) -> Path:
    """Return what an earlier run has downloaded. Raises ``DownloadError`` if that is not complete."""
    import huggingface_hub as hub

    offline = isinstance(reason, hub.errors.OfflineModeIsEnabled)
    try:
        files = [file.path for file in hub.get_cached_repo_tree(hub_id.repository, revision=hub_id.revision)]
        snapshot = _download(hub_id, select(files), offline=True)
    except hub.errors.IncompleteSnapshotError:
        missing = "is not complete in the cache"
    except (hub.errors.CachedRepoTreeNotFoundError, hub.errors.LocalEntryNotFoundError):
        missing = "is not in the cache"
    else:
        if not offline:
            logger.info("%s is used from the cache, because the hub cannot be reached", hub_id)
        return snapshot
    why = "HF_HUB_OFFLINE forbids downloading" if offline else f"{_endpoint()} cannot be reached ({_brief(reason)})"
    advice = "unset it" if offline else "try again with a network"
    raise DownloadError(
        f"{_lookup_text(hub_id)}the model {missing} ({hub.constants.HF_HUB_CACHE}), while {why}; {advice}, or give the "
        "directory of a checkpoint"
    ) from reason


def _check_space(hub_id: HubId, sizes: Mapping[str, int], commit: str | None) -> None:
    """Raise ``DownloadError`` if the disk has less space than the files that are not in the cache take."""
    import huggingface_hub as hub

    missing = sum(
        size
        for name, size in sizes.items()
        if not isinstance(hub.try_to_load_from_cache(hub_id.repository, name, revision=commit), str)
    )
    cache = Path(hub.constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if missing > free:
        raise DownloadError(
            f"{hub_id} takes {missing / GIB:.1f} GiB, but the disk of {cache} has {free / GIB:.1f} GiB left; make space, or "
            "set HF_HOME to a folder on another disk"
        )
    if missing:
        logger.info("downloading %s: %.2f GiB into %s", hub_id, missing / GIB, cache)


@contextmanager
def _as_download_error(hub_id: HubId) -> Iterator[None]:
    """Convert what ``huggingface_hub`` and the libraries below it raise into errors that say what to do."""
    try:
        yield
    except MmduetError:
        raise
    except ImportError as error:
        raise DownloadError(f"downloading {hub_id} needs huggingface_hub; run: pip install huggingface_hub") from error
    except Exception as error:  # each of the libraries has its own exceptions
        raise _explain(hub_id, error) from error


def _explain(hub_id: HubId, error: Exception) -> MmduetError:
    from huggingface_hub import constants, errors

    page = f"{_endpoint()}/{hub_id.repository}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{hub_id} is gated: accept its terms at {page} and set HF_TOKEN to a token of that account ({_brief(error)})"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(f"{hub_id.repository} has no revision {hub_id.revision!r}; see {page}/tree/main")
    is_missing_file = isinstance(error, errors.EntryNotFoundError)
    if isinstance(error, errors.RepositoryNotFoundError) or (status in (401, 404) and not is_missing_file):
        return ModelNotFoundError(
            f"{_lookup_text(hub_id)}there is no such model at {_endpoint()} that is public or that HF_TOKEN may read; check "
            "the name, or set HF_TOKEN for a private model"
        )
    if status == 403:
        return DownloadError(f"the token in HF_TOKEN may not read {hub_id} ({_brief(error)}); use another token")
    if disk_error := next(filter(is_disk_error, _causes(error)), None):
        return DownloadError(
            f"{hub_id} cannot be written to {constants.HF_HUB_CACHE} ({getattr(disk_error, 'strerror', None)}); make space, or "
            "set HF_HOME to a folder on another disk, and run the command again: it continues"
        )
    return DownloadError(f"{hub_id} cannot be downloaded ({_brief(error)}); run the command again: it continues")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what ``huggingface_hub`` and its HTTP client raise where no server answers."""
    import httpx2

    return (ConnectionError, httpx2.TransportError)


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _lookup_text(hub_id: HubId) -> str:
    """Return the beginning of a message: what the name can mean, and what was not found before the hub was asked."""
    if hub_id.is_certain:
        return f"{str(hub_id)!r} is not available: "
    return f"{str(hub_id)!r} can be a directory or a model on the hub: there is no such directory, and "


def _brief(error: Any) -> str:
    """Return the kind of an error and the beginning of its message, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).partition('For more information')[0].split())}"[:200]

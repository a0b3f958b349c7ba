"""Checks the environment variables with the server's prefix: a misspelled setting is reported instead of ignored."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable

from mmduet.errors import OptionError
from mmduet.server.log_events import CLIENT_KEY_VARIABLE_SET
from mmduet.text import did_you_mean

log = logging.getLogger(__name__)
ENV_PREFIX = "MMDUET_"
CLIENT_KEY_VARIABLE = "MMDUET_KEY"
OTHER_VARIABLES = frozenset({CLIENT_KEY_VARIABLE, "MMDUET_CONFIG", "MMDUET_DEBUG", "MMDUET_JUDGE_KEY"})
"""Variables of the command line that are not settings of a server."""


def check_variables(names: Iterable[str], settings: Collection[str]) -> None:
    """Raise ``OptionError`` if a variable with the prefix belongs to none of the ``settings``; case does not matter."""
    known = {ENV_PREFIX + setting.upper() for setting in settings} | OTHER_VARIABLES
    unknown = sorted(name for name in names if name.upper().startswith(ENV_PREFIX) and name.upper() not in known)
    if unknown:
        name = unknown[0]
        suffixes = [variable.removeprefix(ENV_PREFIX) for variable in sorted(known)]
        suggestion = did_you_mean(name[len(ENV_PREFIX) :], suffixes, ENV_PREFIX)
        raise OptionError(
            f"unknown environment variable {name}{suggestion} unset it; docs/settings.md lists all settings"
        )


def warn_about_client_key(keys: Collection[object]) -> None:
    """Log a warning if the variable of clients is set and no ``keys`` are, which is probably a mistake."""
    if os.environ.get(CLIENT_KEY_VARIABLE) and not keys:
        CLIENT_KEY_VARIABLE_SET.emit(log)

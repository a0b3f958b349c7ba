"""Name the command's own options in errors that the layers below raise with the names of Python: ``--top-p`` for ``top_p``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from mmduet.cli._help import walk
from mmduet.errors import OptionError


def name_options_in_errors(command: Any) -> None:
    """Change all commands of ``command`` so that the messages of their ``OptionError`` name options as a user writes them."""
    for _, each in walk((), command):
        names = {
            parameter.name: parameter.opts[0]
            for parameter in each.params
            if parameter.param_type_name == "option" and "_" in parameter.name
        }
        each.callback = _with_option_names(each.callback, names)


def _with_option_names(function: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    if not names:
        return function
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w=])")

    @wraps(function)
    def call(*args: Any, **values: Any) -> Any:
        try:
            return function(*args, **values)
        except OptionError as error:
            error.args = (pattern.sub(lambda found: names[found[1]], str(error)),)
            raise

    return call

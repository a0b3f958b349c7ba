"""Read the JSON files of checkpoints and adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmduet.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, with or without a byte order mark. Raise ``CheckpointError`` if the file does not hold one."""
    try:
        value = json.loads(path.read_bytes())  # detects UTF-8, UTF-16 and UTF-32
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}; write or download the file again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected an object; write or download it again")
    return value

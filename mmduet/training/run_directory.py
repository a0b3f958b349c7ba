"""The directory of a training run: what is in it, and whether a run may use or resume it. It imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmduet.errors import OptionError, TrainingError
from mmduet.files import LineWriter, as_option_error, read_json_lines, write_json, write_text
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_files import dump_recipe, load_recipe

STATE_PREFIX = "checkpoint-"  # of Transformers
STATE_FILE = "trainer_state.json"  # which Transformers writes last
MAX_LISTED = 8


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.recipe, self.metrics = path / "model", path / "recipe.yaml", path / "metrics.jsonl"
        self.states, self.videos, self.log = path / "state", path / "videos.json", path / "tensorboard"
        self._facts = path / "run.json"

    @property
    def is_finished(self) -> bool:
        """Whether the result has been written, which happens at the end."""
        return self.model.exists()

    def open(self, recipe: Recipe, *, resume: bool) -> None:
        """Create the directory and write the recipe, or check that a run of the same recipe can be resumed.

        Raises ``OptionError`` if the directory is not empty and ``resume`` is not set, or if it cannot be written;
        ``TrainingError`` if it belongs to another recipe.
        """
        with as_option_error(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            is_empty = not any(self.path.iterdir())
        if not (is_empty or resume):
            raise OptionError(f"{self.path} is not empty; resume its run with --resume, or use another directory")
        if not is_empty and not self.recipe.exists():
            raise TrainingError(f"{self.path} has no run to resume, but other files; use an empty directory")
        if self.recipe.exists():
            _check_same_recipe(self.recipe, recipe)
        else:
            write_text(self.recipe, dump_recipe(recipe))

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Store what else the steps depend on; raise ``TrainingError`` if a run to be resumed had other values."""
        previous = json.loads(self._facts.read_text(encoding="utf-8")) if self._facts.exists() else None
        if previous is None:
            write_json(self._facts, dict(facts), indent=2)
            return
        changed = [
            f"{name} was {previous.get(name)}, now {value}"
            for name, value in facts.items()
            if previous.get(name) != value
        ]
        if changed:
            raise TrainingError(f"the run in {self.path} cannot be resumed: {'; '.join(changed)}; start a new run")

    def latest_state(self) -> Path | None:
        """Return the directory of the last complete state, or None before the first one."""
        folders = [folder for folder in self.states.glob(f"{STATE_PREFIX}*") if _is_complete(folder)]
        return max(folders, key=state_step, default=None)


class MetricsLog:
    """Rows of metrics by step, one JSON object per line. Rows after the step at which a run resumes are removed."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the log of a run that has taken ``step`` steps."""
        self.rows = [row for row in read_json_lines(path) if row.get("step", 0) <= step] if path.exists() else []
        write_text(path, "".join(f"{json.dumps(row)}\n" for row in self.rows))
        self._writer = LineWriter(path, append=True)

    @property
    def last_step(self) -> int:
        """The step of the last row, 0 without rows."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a row."""
        row = {"step": step, **values}
        self.rows.append(row)
        self._writer.write(json.dumps(row))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def state_step(folder: Path) -> int:
    """Return the number of steps that had been taken when a state was saved."""
    return int(folder.name.removeprefix(STATE_PREFIX))


def _is_complete(folder: Path) -> bool:
    with suppress(OSError, ValueError):
        return bool(state_step(folder) == json.loads((folder / STATE_FILE).read_bytes())["global_step"])
    return False


def _check_same_recipe(path: Path, recipe: Recipe) -> None:
    saved = dict(_flatten(load_recipe(path).model_dump(mode="json")))
    current = dict(_flatten(recipe.model_dump(mode="json")))
    keys = [key for key in {**saved, **current} if saved.get(key) != current.get(key)]
    if keys:
        listed = [f"{key} ({saved.get(key)!r}, now {current.get(key)!r})" for key in keys[:MAX_LISTED]]
        more = f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
        raise TrainingError(
            f"the run in {path.parent} has another recipe; these keys differ: {', '.join(listed)}{more}; "
            "use its own recipe, or another directory"
        )


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a section, with its dotted key."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value

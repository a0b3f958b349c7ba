"""Write prediction files line by line, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from mmduet.annotations.json_values import Json
from mmduet.annotations.prediction_settings import differing_settings, settings_path, settings_to_text
from mmduet.errors import OptionError
from mmduet.files import LineWriter, as_option_error, exclusive_lock, write_text


class PredictionFile:
    """A prediction file that grows by whole lines and resumes where an interrupted run stopped.

    ``settings`` are what the predictions depend on; they are stored beside the file. Use it as a context manager, or call
    ``close``.

    Raises:
        OptionError: the file was written under other settings or by another program, or another run is writing to it.
    """

    def __init__(self, path: Path, settings: Json) -> None:
        self.path = path
        self._settings_path = settings_path(path)
        with ExitStack() as lock:
            lock.enter_context(exclusive_lock(path.with_name(f".{path.name}.lock"), path))
            with as_option_error(path):
                self._claim(settings)
                self.done = self._read_done()
            self._lock = lock.pop_all()

    def add(self, line: Json) -> None:
        """Append one prediction, which is on disk when this returns. Raises ``OptionError`` where writing fails."""
        with LineWriter(self.path, append=True) as out:
            out.write(json.dumps(line), sync=True)
        self.done.add(line["question_id"])

    def sort(self, order: Sequence[str | int]) -> None:
        """Sort the lines, which were added as videos finished, by the position of their question in ``order``."""
        if not self.path.exists():
            return
        positions = {question_id: i for i, question_id in enumerate(order)}
        with as_option_error(self.path):
            text = self.path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        ordered = sorted(lines, key=lambda line: positions.get(json.loads(line)["question_id"], len(positions)))
        if ordered != lines:
            write_text(self.path, "".join(f"{line}\n" for line in ordered))

    def close(self) -> None:
        """Release the file for other runs."""
        self._lock.close()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _claim(self, settings: Json) -> None:
        """Write the settings of a new file, or compare them with those of an existing one."""
        text = settings_to_text(settings)
        if not self.path.exists():
            write_text(self._settings_path, text)
        elif not self._settings_path.exists():
            raise OptionError(f"{self.path} exists, and was not written by this command; give another --output")
        elif (written := self._settings_path.read_text(encoding="utf-8-sig")) != text:
            names = ", ".join(differing_settings(written, settings))
            raise OptionError(f"{self.path} was made with other settings ({names}); give another --output")

    def _read_done(self) -> set[str | int]:
        """Return the answered questions, and cut off an incomplete last line, which a killed run leaves behind."""
        if not self.path.exists():
            return set()
        data = self.path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        try:
            done = {json.loads(line)["question_id"] for line in complete.splitlines() if line.strip()}
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{self.path} is not a prediction file ({error}); give another --output") from error
        if len(complete) < len(data):
            with self.path.open("r+b") as out:
                out.truncate(len(complete))
        return done

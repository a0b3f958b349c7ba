"""Read captions of images or clips and their references, in COCO's and related forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmduet.annotations.json_files import check_unique_ids, read_json_content
from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_id,
    as_list,
    as_text,
    get_field,
)
from mmduet.errors import AnnotationError

ID_FIELDS = ("image_id", "question_id", "id")
CAPTION_FIELDS = ("caption", "prediction", "text")
REFERENCE_FIELDS = ("captions", "references", "caption")


def read_captions(path: Path) -> dict[str, str]:
    """Return one caption per id.

    Read are ``[{image_id, caption}]`` (COCO results; also JSON lines, with the names of ``ID_FIELDS`` and
    ``CAPTION_FIELDS``), ``{id: caption}`` and ``{id: [caption]}``. Raises ``AnnotationError`` naming the entry.
    """
    pairs = []
    for name, value, where in _entries(_rows(read_json_content(path), CAPTION_FIELDS), CAPTION_FIELDS, path):
        with annotation_errors(where):
            pairs.append((name, _parse_caption(value)))
    check_unique_ids((name for name, _ in pairs), path)
    return dict(pairs)


def read_references(path: Path) -> dict[str, list[str]]:
    """Return the references of each id, in the order of the file.

    Read are ``{annotations: [{image_id, caption}]}`` (COCO), ``{id: [captions]}``, ``{id: caption}`` and lists of
    ``{image_id, captions | references | caption}``; an id may have several rows. Raises ``AnnotationError`` naming the entry.
    """
    content = _rows(read_json_content(path), REFERENCE_FIELDS)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    references: dict[str, list[str]] = {}
    for name, value, where in _entries(content, REFERENCE_FIELDS, path):
        with annotation_errors(where):
            references.setdefault(name, []).extend(_parse_references(value))
    if not references:
        raise AnnotationError(f"{path} has no references; check that it is the right file")
    return references


def _rows(content: Json | list[Any], texts: tuple[str, ...]) -> Json | list[Any]:
    """Return JSON lines with a single line as a list; its field names distinguish it from a table by id."""
    is_row = (
        isinstance(content, dict)
        and any(name in content for name in ID_FIELDS)
        and any(name in content for name in texts)
    )
    return [content] if is_row else content


def _entries(content: Json | list[Any], texts: tuple[str, ...], path: Path) -> list[tuple[str, Any, str]]:
    """Return (id, value, place for a message) of a table by id, or of rows."""
    if isinstance(content, dict):
        return [(name, value, f"{path}, {name!r}") for name, value in content.items()]
    entries = []
    for i, row in enumerate(content):
        where = f"{path}, entry {i}"
        with annotation_errors(where):
            entries.append((as_id(get_field(row, *ID_FIELDS)), get_field(row, *texts), where))
    return entries


def _parse_caption(value: object) -> str:
    """Return a caption, given as text or as a list of exactly one."""
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidValueError(f"there are {len(value)} captions, expected one prediction per id")
        value = value[0]
    return as_text(value, "the caption")


def _parse_references(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not (texts := as_list(value, "the list of references")):
        raise InvalidValueError("there is no reference; add one, or remove the entry")
    return [as_text(text, "a reference") for text in texts]

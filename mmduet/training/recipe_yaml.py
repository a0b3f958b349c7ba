"""Parse and write the YAML of recipes: plain values only, with the numbers and booleans of YAML 1.2.

PyYAML follows YAML 1.1, in which ``1e-4`` is a text, ``no`` a boolean and ``010`` the number 8, and it accepts a key twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mmduet.errors import OptionError
from mmduet.text import shorten, to_printable

KeyPath = tuple[str, ...]  # the keys and list indices that lead to a value

MAX_CHARS = 100_000  # PyYAML reads them in seconds
MAX_DEPTH = 20
TAG = "tag:yaml.org,2002:"
OTHER_BREAKS = set("\x85\u2028\u2029")  # line breaks of YAML 1.1
#: Plain values that are not texts, in the order in which they are tried: type, pattern, first characters.
SCALARS = (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
)


class _Composer(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. Raises ``ComposerError`` for values that are nested too deeply."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "values are nested too deeply", self.peek_event().start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values in full."""
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Write text in double quotes, with escapes, if it has line breaks that only YAML 1.1 knows."""
        return self.represent_scalar(TAG + "str", text, style='"' if OTHER_BREAKS & set(text) else None)


_Dumper.add_representer(str, _Dumper.represent_text)

for _kind, _pattern, _first in SCALARS:
    for _class in (_Composer, _Dumper):
        _class.add_implicit_resolver(TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(frozen=True)
class Document:
    """A parsed file: its value (None if it is empty) and the line, from 1, of every key and list entry."""

    value: Any
    lines: dict[KeyPath, int]

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of ``path`` or of the closest enclosing key, None if it is the whole document."""
        return next((self.lines[path[:size]] for size in range(len(path), 0, -1) if path[:size] in self.lines), None)


def parse_yaml(text: str, source: str) -> Document:
    """Parse one YAML document. Raises ``OptionError``, whose message begins with ``source``."""
    if len(text) > MAX_CHARS:
        raise OptionError(f"{source} has {len(text)} characters, and at most {MAX_CHARS} are read; shorten it")
    try:
        node = yaml.compose(text, Loader=_Composer)
        builder = _Builder(source)
        return Document(None if node is None else builder.build(node, ()), builder.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _format_error(
            source, mark, f"is not valid YAML: {shorten(to_printable(reason))}; fix that line"
        ) from None
    except yaml.YAMLError as error:
        raise OptionError(f"{source} is not valid YAML: {str(error).splitlines()[0]}; save it as UTF-8 text") from None


def dump_yaml(value: Any) -> str:
    """Return dictionaries, lists, texts, numbers, booleans and None as YAML that ``parse_yaml`` reads back as they are."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return str(text)


@dataclass
class _Builder:
    """Builds plain values from YAML's nodes; ``lines`` has the line of each."""

    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    _built: dict[int, Any] = field(default_factory=dict)  # by node, so that an alias is the value that it refers to
    _ancestors: set[int] = field(default_factory=set)  # nodes that contain the one being built

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the value of a node. Raises ``OptionError``."""
        if id(node) in self._ancestors:
            raise _format_error(self.source, node.start_mark, "contains itself; remove the alias")
        if id(node) not in self._built:
            self._ancestors.add(id(node))
            self._built[id(node)] = self._build(node, path)
            self._ancestors.remove(id(node))
        return self._built[id(node)]

    def _build(self, node: yaml.Node, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._build_entry(item, (*path, str(i))) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in ("str", "null", "bool", "int", "float"):
            return self._build_scalar(kind, node)
        raise _format_error(
            self.source,
            node.start_mark,
            f"has the tag {shorten(to_printable(node.tag))}; write the value without a tag",
        )

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _format_error(self.source, key_node.start_mark, "has a key that is not a text; use a name")
            key = self._read_text(key_node)
            if key in values:
                repeated = shorten(to_printable(".".join((*path, key))))
                raise _format_error(
                    self.source, key_node.start_mark, f"sets {repeated} a second time; remove one of the two"
                )
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            values[key] = self.build(value_node, (*path, key))
        return values

    def _build_entry(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _read_text(self, node: yaml.ScalarNode) -> str:
        """Return the text of a key or value; escapes such as ``"\\ud800"`` can make one that no file or message can contain."""
        text = str(node.value)
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise _format_error(
                self.source, node.start_mark, f"has {shorten(repr(text))}, which is not valid Unicode text; correct it"
            )
        return text

    def _build_scalar(self, kind: str, node: yaml.ScalarNode) -> Any:
        text = self._read_text(node)
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text)
                case "float":
                    return float(text.replace(".", "", 1) if text[-1:].isalpha() else text)  # .inf and .nan
                case _:
                    return text
        except (KeyError, ValueError):  # with a tag (!!int x), or an integer of thousands of digits
            raise _format_error(
                self.source, node.start_mark, f"has {shorten(text)!r}, which is not a valid {kind}; correct it"
            ) from None


def _format_error(source: str, mark: yaml.Mark | None, problem: str) -> OptionError:
    return OptionError(f"{source}, line {mark.line + 1} {problem}" if mark else f"{source} {problem}")

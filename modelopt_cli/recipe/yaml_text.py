"""Recipe text to plain data with positions; whatever two YAML readers would read differently is refused.

YAML 1.1 (PyYAML) and 1.2 (most others) disagree on ``yes``, ``12:30``, ``017`` and ``1e-3``. The last one is always a
number here; the others are mistakes, because nobody can know what was meant (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and indices from the top of the document."""

MAX_DEPTH = 20  # a recipe needs five; PyYAML's composer recurses, and would end in a RecursionError

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_DIGITS = re.compile(r"[-+]?[0-9]+")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 40
_WRITE_INSTEAD = {
    "bool": "write true or false, or put it in quotes",
    "int": "write a plain decimal number, or put it in quotes",
    "float": "write a plain decimal number, or put it in quotes",
}


@dataclass(frozen=True)
class Problem:
    """One mistake: where in the text (1-based line and column), where in the data, and what."""

    line: int
    column: int
    path: Path
    message: str


@dataclass
class Document:
    """What a text says.

    Attributes:
        data: Dicts, lists and scalars; None when nothing could be read.
        values: Position of each value, by path.
        keys: Position of each mapping key, by the path of its value.
        problems: Mistakes of the text itself, in order.
    """

    data: Any = None
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class AmbiguousScalarError(ValueError):
    """A plain scalar that YAML 1.1 and 1.2 read differently."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(f"YAML readers disagree on an unquoted {text}: {advice}")


def read_yaml(text: str) -> Document:
    """Read one YAML document; mistakes are collected in it, never raised."""
    document = Document()
    try:
        document.problems.extend(_refused_events(text))
        node = None if document.problems else yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.problems.append(Problem(line, column, (), f"is not YAML: {error.problem or error.context}"))
        return document
    except yaml.YAMLError as error:  # a character that YAML does not allow; it has no line
        document.problems.append(Problem(1, 1, (), f"is not YAML: {' '.join(str(error).split())}"))
        return document
    if node is not None:
        document.data = _read_node(node, (), document)
    return document


def read_scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means: None, bool, int, float or the text itself.

    Raises:
        AmbiguousScalarError: YAML 1.1 reads it otherwise; the message says what to write.
    """
    value = _core_schema(text)
    tag = _resolve_yaml11(yaml.ScalarNode, text, (True, False))
    kind = tag.rpartition(":")[2]
    if kind not in ("str", _kind(value)):
        raise AmbiguousScalarError(text, _WRITE_INSTEAD.get(kind, "put it in quotes"))
    return value


def write_yaml(data: Any) -> str:
    """Block-style YAML that `read_yaml` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """PyYAML leaves `1e3` unquoted when it is text, because YAML 1.1 calls it text; here it would be a number."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = read_scalar(text) == text
    except AmbiguousScalarError:
        plain = False
    style = (None if plain else "'") if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _refused_events(text: str) -> Iterator[Problem]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = _place(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            yield Problem(*place, (), "anchors and aliases are not read; text that begins with * or & needs quotes")
        elif (tag := getattr(event, "tag", None)) is not None:
            yield Problem(*place, (), f"tags are not read: remove {tag}; text that begins with ! needs quotes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            yield Problem(*place, (), f"is nested more than {MAX_DEPTH} deep")
            return


def _place(positioned: yaml.Node | yaml.Event) -> tuple[int, int]:
    mark = positioned.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _read_node(node: yaml.Node, path: Path, document: Document) -> Any:
    document.values[path] = _place(node)
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_read_node(item, (*path, index), document) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is not None:
        return node.value
    try:
        return read_scalar(node.value)
    except AmbiguousScalarError as error:
        document.problems.append(Problem(*_place(node), path, str(error)))
        return None


def _read_mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _read_key(key_node, path, document)
        if key is None:
            continue
        inner = (*path, key)
        if key in found:
            message = f"duplicate key, first written on line {document.keys[inner][0]}"
            document.problems.append(Problem(*_place(key_node), inner, message))
            continue
        document.keys[inner] = _place(key_node)
        found[key] = _read_node(value_node, inner, document)
    return found


def _read_key(node: yaml.Node, path: Path, document: Document) -> str | None:
    message = "a key must be a word"
    if isinstance(node, yaml.ScalarNode):
        try:
            key = node.value if node.style is not None else read_scalar(node.value)
            if isinstance(key, str):
                return key
        except AmbiguousScalarError as error:
            message = str(error)
    document.problems.append(Problem(*_place(node), path, message))
    return None


def _core_schema(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _DIGITS.fullmatch(text):
        if not _INT.fullmatch(text) or len(text) > _MAX_DIGITS:
            raise AmbiguousScalarError(text[:_MAX_DIGITS], _WRITE_INSTEAD["int"])
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _kind(value: object) -> str:
    return {type(None): "null", bool: "bool", int: "int", float: "float"}.get(type(value), "str")


_resolve_yaml11: Callable[[type[yaml.Node], str, tuple[bool, bool]], str] = yaml.resolver.Resolver().resolve

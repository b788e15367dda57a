"""Reading files that people write, and saying in one line what is wrong with them."""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from servesat.core.errors import ServesatError

MAX_FILE_BYTES = 1_000_000
"""A spec, a model or a chip is a few kilobytes; anything larger is the wrong file."""

Dtype = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]
Count = Annotated[int, Field(strict=True, ge=1, le=10**12)]


def _not_vanishing(value: float) -> float:
    if value < 1e-9:
        raise ValueError(f"{value}: expected at least 1e-09")
    return value


Positive = Annotated[float, Field(strict=True, gt=0, le=1e30, allow_inf_nan=False), AfterValidator(_not_vanishing)]
Usd = Annotated[float, Field(strict=True, ge=1e-9, le=1e9, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, ge=1, le=1e30, allow_inf_nan=False)]

_EXPECTED = {
    "missing": "is missing",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "finite_number": "expected a finite number",
    "greater_than": "expected a number greater than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected a number less than {lt}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected one of {expected}",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping of keys to values",
    "model_type": "expected a mapping of keys to values",
    "model_attributes_type": "expected a mapping of keys to values",
    "too_short": "expected at least {min_length} entry",
}


class Strict(BaseModel):
    """A frozen record that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Record = TypeVar("Record", bound=Strict)


def validate(
    record: type[Record],
    data: object,
    *,
    where: str,
    error: type[ServesatError],
    prefix: str = "",
    context: dict[str, Any] | None = None,
) -> Record:
    """Build `record` from `data`; raise `error` with one line per fault: where, key, value, what was expected.

    `prefix` is the key under which `data` stands in the file `where`.
    """
    try:
        return record.model_validate(data, context=context)
    except ValidationError as fault:
        details = fault.errors(include_url=False)
        # A list whose entry is wrong is also reported as too short: the entry says it all.
        places = [detail["loc"] for detail in details]
        inner = [
            d for d in details if not any(len(p) > len(d["loc"]) and p[: len(d["loc"])] == d["loc"] for p in places)
        ]
        raise error("\n".join(_line(record, detail, where, prefix) for detail in inner)) from None


def refuse_unknown(
    record: type[BaseModel], data: Mapping[str, Any], *, where: str, error: type[ServesatError], prefix: str = ""
) -> None:
    """Raise `error` for keys that a record does not have, before anything is made of the others."""
    unknown = [key for key in data if key not in record.model_fields]
    if unknown:
        raise error(
            "\n".join(_unknown(record, where, ".".join(filter(None, (prefix, str(key)))), str(key)) for key in unknown)
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are meant: `did you mean 'a'?`, or list them when nothing is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    return f"known: {', '.join(names)}" if names else "none is known"


def shorten(value: object) -> str:
    """Show a value as the user wrote it, cut to a length that keeps an error on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def refuse_duplicates(values: Sequence[Hashable]) -> None:
    """Raise ValueError when a value is listed twice."""
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"{value!r} is listed twice")


def _line(record: type[BaseModel], detail: Any, where: str, prefix: str) -> str:
    loc = [part for part in detail["loc"] if part != "[key]"]
    key = ".".join([*([prefix] if prefix else []), *map(str, loc)])
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown(_record_at(record, loc[:-1]), where, key, str(loc[-1]))
    if kind == "missing":
        return f"{where}: {key} is missing"
    if kind == "value_error":
        return f"{where}: {key}{': ' if key else ''}{detail['ctx']['error']}"
    expected = _EXPECTED.get(kind, detail["msg"]).format(**detail.get("ctx", {}))
    return f"{where}: {key or 'the document'} = {shorten(value)}: {expected}"


def _unknown(owner: type[BaseModel] | None, where: str, key: str, name: str) -> str:
    return f"{where}: {key}: unknown key; {nearest(name, owner.model_fields if owner else ())}"


def _record_at(record: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    """The record that owns the key at `path`, to name its neighbours; None below a list or a free mapping."""
    owner: Any = record
    for part in path:
        if not isinstance(part, int):
            owner = _below(owner, part)
    return next(iter(_records(owner)), None)


def annotation_at(record: type[BaseModel], path: Sequence[str]) -> Any:
    """The type of the value at a path of keys in a record: `axes`, `0`, `bytes_per_s`.

    Raises KeyError, saying what is unknown and which names are near.
    """
    found: Any = record
    for part in path:
        owner, found = found, _below(found, part)
        if found is None:
            known = {name for below in _records(owner) for name in below.model_fields}
            raise KeyError(f"unknown key; {nearest(part, known)}" if known else f"no keys below, so no {part}")
    return found


def _below(annotation: Any, part: str) -> Any:
    """The type of one key, or of one position, of a type; None where there is none."""
    for record in _records(annotation):
        if part in record.model_fields:
            return record.model_fields[part].annotation
    for container in _flat(annotation):
        origin, arguments = get_origin(container), get_args(container)
        if origin is dict:
            return arguments[1]
        if origin is tuple and part.isdecimal() and part.isascii():
            return arguments[0]
    return None


def holds(annotation: Any, kind: type) -> bool:
    """Whether a type, or one of those it is a union of, is `kind`: `tuple[str, ...] | None` holds a tuple."""
    return any(one is kind or get_origin(one) is kind for one in _flat(annotation))


def _records(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _flat(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _flat(annotation: Any) -> list[Any]:
    """A type without its metadata, as the types that it is a union of."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _flat(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return [one for argument in get_args(annotation) for one in _flat(argument)]
    return [annotation]


def read_yaml(path: Path, error: type[ServesatError]) -> object:
    """Read one YAML document: numbers as YAML 1.2 writes them, no duplicate keys, no aliases."""
    return parse_yaml(_read_text(path, error), str(path), error)


def parse_yaml(text: str, where: str, error: type[ServesatError]) -> object:
    """Parse YAML text as `read_yaml` does; raise `error` with the place of the fault."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise error(f"{where}: malformed YAML:{place} {fault.problem or fault.context}") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        # PyYAML raises whatever its constructors meet when an explicit tag does not fit its value.
        raise error(f"{where}: malformed YAML: {' '.join(str(fault).split())}") from None
    except RecursionError:
        raise error(f"{where}: malformed YAML: nested too deeply") from None


def read_toml(path: Path, error: type[ServesatError]) -> dict[str, Any]:
    """Read a TOML file; raise `error` with the place of the fault."""
    try:
        return tomllib.loads(_read_text(path, error))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as fault:
        raise error(f"{path}: malformed TOML: {fault}") from None


def read_json(path: Path, error: type[ServesatError]) -> object:
    """Read a JSON file; raise `error` for duplicate keys, for numbers that are not finite, and for malformed text."""
    try:
        return json.loads(_read_text(path, error), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (json.JSONDecodeError, ValueError, RecursionError) as fault:
        raise error(f"{path}: malformed JSON: {fault}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    refuse_duplicates([key for key, _ in pairs])
    for key, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} = {value}: expected a finite number")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}: expected a finite number")


def _read_text(path: Path, error: type[ServesatError]) -> str:
    try:
        if path.is_dir():
            raise error(f"{path}: is a folder, expected a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise error(f"{path}: {path.stat().st_size:,} bytes, expected at most {MAX_FILE_BYTES:,}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise error(f"{path}: more than {MAX_FILE_BYTES:,} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as fault:
        reason = "is not UTF-8 text" if isinstance(fault, UnicodeDecodeError) else str(fault)
        raise error(f"{path}: cannot be read: {reason}") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader with the numbers of YAML 1.2 (`8e9` is one, `1:30` is none), without duplicate keys or aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not supported; write the value out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key!r} is written twice", problem_mark=key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)

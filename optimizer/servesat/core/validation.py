"""Records with strict fields, and one error line for each fault in what people write."""

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticKnownError

from servesat.core.errors import ServesatError

Dtype = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]
Count = Annotated[int, Field(strict=True, ge=1, le=10**12)]


def _not_vanishing(value: float) -> float:
    if value < 1e-9:
        raise PydanticKnownError("greater_than_equal", {"ge": 1e-9})
    return value


Positive = Annotated[float, Field(strict=True, gt=0, le=1e30, allow_inf_nan=False), AfterValidator(_not_vanishing)]
Usd = Annotated[float, Field(strict=True, ge=1e-9, le=1e9, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, ge=1, le=1e30, allow_inf_nan=False)]

MAY_BE_NONE = BeforeValidator(lambda value: None if value == "none" else value)
"""Of a key whose value may also be `none`, in words."""

ONE, SEVERAL = "[one]", "[several]"
"""Tags of a value and of a mapping of such values, of which a key may have either."""

MAX_FAULTS = 10
"""Faults of a file that are shown; the others are counted."""

_EXPECTED = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "string_too_short": "expected text",
    "string_pattern_mismatch": "expected text of the form {pattern}",
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
    "too_long": "expected at most {max_length} entries",
}


class Strict(BaseModel):
    """A frozen record that refuses unknown keys, and takes the numbers of numpy and pandas for those of Python."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, data: Any) -> Any:
        return {key: plain(value) for key, value in data.items()} if isinstance(data, dict) else data


def plain(value: Any) -> Any:
    """A number of numpy, or a list of some, as Python has it; anything else as it is."""
    if isinstance(value, list | tuple) and any(isinstance(each, np.generic) for each in value):
        return [plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


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
    """Build a record from `data`. Raises `error`, one line per fault: file, key, value, what was expected.

    `where` names the file in errors, `prefix` the key of `data` in it.
    """
    try:
        return record.model_validate(data, context=context)
    except ValidationError as fault:
        raise error(fault_lines(record, fault, where, prefix)) from None


def fault_lines(record: type[BaseModel], fault: ValidationError, where: str, prefix: str = "") -> str:
    """One line for each fault that Pydantic found in a record: file, key, value, what was expected."""
    details = fault.errors(include_url=False)
    # Pydantic also reports a list with a faulty entry as too short: report the entry alone.
    outer = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    innermost = [detail for detail in details if detail["loc"] not in outer]
    lines = [_error_line(record, detail, where, prefix) for detail in innermost[:MAX_FAULTS]]
    return "\n".join(lines + _more(where, len(innermost)))


def refuse_unknown(
    record: type[BaseModel], data: Mapping[str, Any], *, where: str, error: type[ServesatError], prefix: str = ""
) -> None:
    """Refuse the keys of `data` that a record does not have. Raises `error`, one line per key."""
    unknown = [str(key) for key in data if key not in record.model_fields]
    if unknown:
        keys = [".".join(filter(None, (prefix, key))) for key in unknown[:MAX_FAULTS]]
        lines = [_unknown_key(record, where, key, name) for key, name in zip(keys, unknown, strict=False)]
        raise error("\n".join(lines + _more(where, len(unknown))))


def _more(where: str, faults: int) -> list[str]:
    """The line that counts the faults beyond those shown."""
    return [f"{where}: {faults - MAX_FAULTS:,} more faults"] if faults > MAX_FAULTS else []


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known names near a name, those it begins first: `did you mean 'a'?`; or list all if none is near."""
    names, start = sorted(set(known)), name.lower()
    begun = [one for one in names if start and one.startswith(start)]
    near = list(dict.fromkeys([*begun, *difflib.get_close_matches(start, names, n=3, cutoff=0.5)]))[:3]
    if near:
        return "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    return f"known: {', '.join(names)}" if names else "none is known"


def shorten(value: object) -> str:
    """A value as text of at most 60 characters, so that an error stays on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def refuse_duplicates(values: Sequence[Hashable]) -> None:
    """Check that no value is listed twice. Raises ValueError."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is listed twice")
        seen.add(value)


def _error_line(record: type[BaseModel], detail: Any, where: str, prefix: str) -> str:
    loc = [part for part in detail["loc"] if part not in {"[key]", ONE, SEVERAL}]
    key = ".".join([*([prefix] if prefix else []), *map(str, loc)])
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(_record_at(record, loc[:-1]), where, key, str(loc[-1]))
    if kind == "missing":
        return f"{where}: {key} is missing"
    if kind == "value_error":
        return f"{where}: {key}{': ' if key else ''}{detail['ctx']['error']}"
    expected = _EXPECTED.get(kind, detail["msg"]).format(**detail.get("ctx", {}))
    return f"{where}: {key or 'the document'} = {shorten(value)}: {expected}"


def _unknown_key(record: type[BaseModel] | None, where: str, key: str, name: str) -> str:
    return f"{where}: {key}: unknown key; {nearest(name, record.model_fields if record else ())}"


def _record_at(record: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    """The record at a path of keys and list positions; None below a free mapping."""
    annotation: Any = record
    for part in path:
        annotation = _annotation_below(annotation, str(part))
    return next(iter(_records(annotation)), None)


def annotation_at(record: type[BaseModel], path: Sequence[str]) -> Any:
    """The type at a path of keys and list positions in a record: `axes`, `0`, `bytes_per_s`.

    Raises KeyError with the unknown key and the names near it.
    """
    annotation: Any = record
    for part in path:
        parent, annotation = annotation, _annotation_below(annotation, part)
        if annotation is None:
            known = {name for record in _records(parent) for name in record.model_fields}
            raise KeyError(f"unknown key; {nearest(part, known)}" if known else f"no keys below, so no {part}")
    return annotation


def _annotation_below(annotation: Any, part: str) -> Any:
    """The type at a key, or at a list position, of a type; None for an unknown key."""
    for record in _records(annotation):
        if part in record.model_fields:
            return record.model_fields[part].annotation
    for container in _alternatives(annotation):
        origin, arguments = get_origin(container), get_args(container)
        if origin is dict:
            return arguments[1]
        if origin is tuple and part.isdecimal() and part.isascii():
            return arguments[0]
    return None


def holds(annotation: Any, kind: type) -> bool:
    """Whether a type is `kind`, or a union with it: `tuple[str, ...] | None` holds a tuple."""
    return any(member is kind or get_origin(member) is kind for member in _alternatives(annotation))


def _records(annotation: Any) -> list[type[BaseModel]]:
    return [m for m in _alternatives(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, nested or not, or the type itself; without metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return [member for argument in get_args(annotation) for member in _alternatives(argument)]
    return [annotation]

"""The fields of a Hugging Face `config.json`, with errors that name them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from servesat.core.errors import CatalogueError
from servesat.core.validation import shorten

Value = TypeVar("Value")


@dataclass(frozen=True)
class ConfigJson:
    """The fields of a `config.json`, with errors that name them; `a.b` is the field b of the object a."""

    fields: Mapping[str, Any]
    where: str
    container: str  # named in errors about missing fields
    names: Mapping[str, str] = field(default_factory=dict)  # usual name of a field: the one that the file has for it

    def get(self, name: str) -> Any:
        """The value of a field, None where it is absent."""
        value: Any = self.fields
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def fault(self, text: str) -> CatalogueError:
        """The error that says this of the file."""
        return CatalogueError(f"{self.where}: {text}")

    def changed(self, fields: Mapping[str, Any]) -> "ConfigJson":
        """The same with other values of some fields."""
        return replace(self, fields={**self.fields, **fields})

    def named(self, name: str) -> str:
        """A field as the file names it."""
        first, dot, inner = name.partition(".")
        return self.names.get(first, first) + dot + inner

    def missing(self, *names: str, expected: str = "") -> CatalogueError:
        """The error of fields that are missing."""
        are = "is" if len(names) == 1 else "are"
        listed = ", ".join(map(self.named, names))
        return self.fault(f"{listed} {are} missing; expected {expected or f'in {self.container}'}")

    def wrong(self, name: str, expected: str) -> CatalogueError:
        """The error of a field whose value is not what is expected."""
        return self.fault(f"{self.named(name)} = {shorten(self.get(name))}: expected {expected}")

    def count(self, name: str, minimum: int = 1) -> int:
        """A whole number. Raises CatalogueError."""
        value = self.get(name)
        if value is None:
            raise self.missing(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self.wrong(name, f"a whole number of at least {minimum}")
        return value

    def count_or_zero(self, name: str) -> int:
        """A whole number, 0 where the field is absent. Raises CatalogueError."""
        return 0 if self.get(name) is None else self.count(name, minimum=0)

    def flag(self, name: str, default: bool) -> bool:
        """True or false, the default where the field is absent. Raises CatalogueError."""
        value = default if self.get(name) is None else self.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, known: Mapping[Any, Value]) -> Value:
        """What the value of a field means, of the values known. Raises CatalogueError."""
        if self.get(name) is None:
            raise self.missing(name)
        for value, meaning in known.items():
            if value == self.get(name):
                return meaning
        values = ", ".join(sorted(map(str, known)))
        raise self.fault(f"{self.named(name)} = {shorten(self.get(name))} is not supported; known: {values}")

    def entry_per_layer(self, name: str, layers: int, known: Collection[Any]) -> list[Any]:
        """A list with an entry for every layer. Raises CatalogueError."""
        entries, kinds = self.get(name), {type(one) for one in known}
        is_known = isinstance(entries, list) and all(type(entry) in kinds and entry in known for entry in entries)
        if not is_known or len(entries) != layers:
            raise self.wrong(name, f"a list with one of {', '.join(map(str, known))} for each of {layers} layers")
        return list(entries)

    def layer_numbers(self, name: str, layers: int) -> set[int]:
        """A list of layer numbers, from 0; empty when the field is absent. Raises CatalogueError."""
        entries = [] if self.get(name) is None else self.get(name)
        if not isinstance(entries, list) or not all(type(entry) is int and 0 <= entry < layers for entry in entries):
            raise self.wrong(name, f"a list of layers, from 0 to {layers - 1}")
        return set(entries)

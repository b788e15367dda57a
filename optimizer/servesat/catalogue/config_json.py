"""The fields of a Hugging Face `config.json`, with errors that name them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
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

    def get(self, field: str) -> Any:
        """The value of a field, None where it is absent."""
        value: Any = self.fields
        for key in field.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def fault(self, text: str) -> CatalogueError:
        """The error that says this of the file."""
        return CatalogueError(f"{self.where}: {text}")

    def missing(self, field: str, expected: str = "") -> CatalogueError:
        """The error of a field that is missing."""
        return self.fault(f"{field} is missing; expected {expected or f'in {self.container}'}")

    def wrong(self, field: str, expected: str) -> CatalogueError:
        """The error of a field whose value is not what is expected."""
        return self.fault(f"{field} = {shorten(self.get(field))}: expected {expected}")

    def count(self, field: str, minimum: int = 1) -> int:
        """A whole number. Raises CatalogueError."""
        value = self.get(field)
        if value is None:
            raise self.missing(field)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self.wrong(field, f"a whole number of at least {minimum}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        """True or false, the default where the field is absent. Raises CatalogueError."""
        value = default if self.get(field) is None else self.get(field)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value

    def choice(self, field: str, known: Mapping[Any, Value]) -> Value:
        """What the value of a field means, of the values known. Raises CatalogueError."""
        if self.get(field) is None:
            raise self.missing(field)
        for name, meaning in known.items():
            if name == self.get(field):
                return meaning
        names = ", ".join(sorted(map(str, known)))
        raise self.fault(f"{field} = {shorten(self.get(field))} is not supported; known: {names}")

    def entry_per_layer(self, field: str, layers: int, known: Collection[Any]) -> list[Any]:
        """A list with an entry for every layer. Raises CatalogueError."""
        entries = self.get(field)
        if not isinstance(entries, list) or len(entries) != layers or not all(entry in known for entry in entries):
            raise self.wrong(field, f"a list with one of {', '.join(map(str, known))} for each of {layers} layers")
        return entries

    def layer_numbers(self, field: str, layers: int) -> set[int]:
        """A list of layer numbers, from 0; empty when the field is absent. Raises CatalogueError."""
        entries = [] if self.get(field) is None else self.get(field)
        if not isinstance(entries, list) or not all(type(entry) is int and 0 <= entry < layers for entry in entries):
            raise self.wrong(field, f"a list of layers, from 0 to {layers - 1}")
        return set(entries)

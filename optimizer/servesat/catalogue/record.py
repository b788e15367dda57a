"""The fields shared by the catalogue's files: a name, a date, and the source of each figure."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from servesat.core.validation import Strict, nearest

Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Sourced(Strict):
    """A record that names the source of each field; `default` covers fields without their own entry."""

    id: str = Field(default="", max_length=200, description="The file's name, or the name of an inline record.")
    name: Text
    checked: date | None = Field(
        default=None, description="Date on which the figures were last compared with their sources."
    )
    sources: dict[str, Text] = Field(default={}, description="Source of each figure, by field name.")

    @model_validator(mode="before")
    @classmethod
    def _name_is_id(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "id" not in data and isinstance(data.get("name"), str):
            return {**data, "id": data["name"]}
        return data

    @model_validator(mode="after")
    def _sources_name_fields(self) -> Self:
        for field in self.sources:
            if field != "default" and field not in type(self).model_fields:
                raise ValueError(f"sources.{field} is not a field; {nearest(field, type(self).model_fields)}")
        return self

"""Published recoveries: the score of a quantised model over that of its baseline (models/quality/published.toml)."""

from functools import cache
from typing import Annotated

from pydantic import Field

from servesat.catalogue.load import shelf_of
from servesat.catalogue.record import Sourced, Text
from servesat.core.errors import CatalogueError
from servesat.core.validation import Dtype, Strict, read_toml, validate

Fraction = Annotated[float, Field(strict=True, gt=0, le=1.1, allow_inf_nan=False)]


class Recovery(Strict):
    """The score of a quantised model over that of its baseline, as published; noise takes some above 1."""

    models: tuple[str, ...] = Field(min_length=1, description="Ids of models; `*` where the source says so of all.")
    recovery: Fraction
    suite: Text
    source: Text


class WeightsRecovery(Recovery):
    """A recovery of weights, and of the dtype that the matmuls compute in."""

    weights: Dtype
    compute: Dtype


class KvCacheRecovery(Recovery):
    """A recovery of the KV cache."""

    kv_cache: Dtype


class QualityTable(Sourced):
    """Published recoveries."""

    weights: tuple[WeightsRecovery, ...]
    kv_cache: tuple[KvCacheRecovery, ...]


@cache
def published() -> QualityTable:
    """The recoveries that the project knows of. Raises CatalogueError when their file is malformed."""
    path = shelf_of("models") / "quality" / "published.toml"
    return validate(QualityTable, read_toml(path, CatalogueError), where=str(path), error=CatalogueError)

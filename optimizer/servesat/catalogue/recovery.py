"""Published recoveries: the score of a quantised model over that of its baseline (models/quality/published.toml)."""

from functools import cache
from typing import Annotated

from pydantic import Field

from servesat.catalogue.load import shelf_of
from servesat.catalogue.record import Sourced, Text
from servesat.core.errors import CatalogueError
from servesat.core.reading import read_toml
from servesat.core.validation import Dtype, Strict, validate

Fraction = Annotated[float, Field(strict=True, gt=0, le=1.1, allow_inf_nan=False)]


class Recovery(Strict):
    """The score of a quantised model over that of its baseline, as published; noise can raise it above 1."""

    models: tuple[str, ...] = Field(
        min_length=1, description="Ids of models; `*`: the source states it for all models."
    )
    recovery: Fraction
    suite: Text
    source: Text


class WeightsRecovery(Recovery):
    """The recovery of a model with quantised weights, computed in the given dtype."""

    weights: Dtype
    compute: Dtype


class KvCacheRecovery(Recovery):
    """The recovery of a model with a quantised KV cache."""

    kv_cache: Dtype


class QualityTable(Sourced):
    """The published recoveries."""

    weights: tuple[WeightsRecovery, ...]
    kv_cache: tuple[KvCacheRecovery, ...]


@cache
def published() -> QualityTable:
    """The published recoveries, from the catalogue. Raises CatalogueError when their file is malformed."""
    path = shelf_of("models") / "quality" / "published.toml"
    return validate(QualityTable, read_toml(path, CatalogueError), where=str(path), error=CatalogueError)

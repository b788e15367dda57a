"""The search space of a deployment: chips, slices, dtypes, modes and batches, with limits on chips and cost."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from servesat.catalogue.chip import Chip, Topology
from servesat.catalogue.load import load_chip
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.validation import Count, Dtype, Positive, Strict, refuse_duplicates, shorten
from servesat.spec.references import origin_of, resolved_at
from servesat.spec.workload import Tokens

MAX_BATCH = 10**6

CHUNKS = (128, 256, 512, 1024, 2048, 4096, 8192)
"""Default chunk sizes: prompt tokens that may be computed in a decode step."""


def _resolve_chips(value: Any, info: ValidationInfo) -> Any:
    return chips_at(value, *origin_of(info))


def chips_at(value: Any, where: str, folder: Path) -> tuple[Chip, ...] | None:
    """Resolve the chips that a spec lists; None searches every chip with a price. Raises SpecError."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise SpecError(
            f"{where}: search.chips = {shorten(value)}: expected a list of ids, paths or mappings; leave it out to "
            "search every chip with a price"
        )
    chips: list[Chip] = []
    for position, entry in enumerate(value):
        key = f"search.chips.{position}"
        chip = resolved_at(entry, (where, folder), Chip, load_chip, key)
        if chip.id in [other.id for other in chips]:
            raise SpecError(f"{where}: {key}: a chip with the id '{chip.id}' is already listed")
        chips.append(chip)
    return tuple(chips)


def _no_duplicates(values: tuple[Any, ...]) -> tuple[Any, ...]:
    refuse_duplicates(values)
    return values


Dtypes = Annotated[tuple[Dtype, ...], Field(min_length=1), AfterValidator(_no_duplicates)]
Topologies = Annotated[tuple[Topology, ...], Field(min_length=1), AfterValidator(_no_duplicates)]


class Search(Strict):
    """The search space: chips, slices, dtypes, modes, batches, and limits on all slices together."""

    chips: Annotated[tuple[Chip, ...] | None, BeforeValidator(_resolve_chips)] = None
    weights: Dtypes | None = None
    kv_cache: Dtypes = ("bf16", "int8")
    compute: Dtypes = ("bf16",)
    modes: Annotated[tuple[Mode, ...] | None, Field(min_length=1)] = None
    chunk_tokens: Annotated[tuple[Tokens, ...], Field(min_length=1), AfterValidator(_no_duplicates)] = CHUNKS
    min_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] | None = None
    max_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] = 4096
    max_quality_loss: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] | None = None
    max_chips: Count | None = None
    max_usd_per_hour: Positive | None = None
    quota: dict[str, Annotated[int, Field(strict=True, ge=0, le=10**12)]] = {}
    topologies: dict[str, Topologies] = {}

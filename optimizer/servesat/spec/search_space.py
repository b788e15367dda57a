"""The search space of a deployment: chips, slices, dtypes, modes and batches, with limits on chips and cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo

from servesat.catalogue.chip import Chip, Topology
from servesat.catalogue.load import load_chip
from servesat.core.errors import SpecError
from servesat.core.plan import KvLayout, Mode
from servesat.core.validation import Count, Dtype, Positive, Strict, refuse_duplicates, shorten
from servesat.spec.references import origin_of, resolved_at
from servesat.spec.workload import Tokens

MAX_BATCH = 10**6

MAXLISTED_CHIPS = 200
"""The most chips that a spec may list."""

CHUNKS = (128, 256, 512, 1024, 2048, 4096, 8192)
"""Default chunk sizes: prompt tokens that may be computed in a decode step."""


def _resolve_chips(value: Any, info: ValidationInfo) -> Any:
    return chips_at(value, *origin_of(info))


def chips_at(value: Any, where: str, folder: Path) -> tuple[Chip, ...] | None:
    """Resolve the chips that a spec lists; None searches every chip with a price. Raises SpecError."""
    if value is None:
        return None
    value = as_list(value)
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAXLISTED_CHIPS:
        raise SpecError(
            f"{where}: search.chips = {shorten(value)}: expected 1 to {MAXLISTED_CHIPS} ids, paths or mappings; leave "
            "it out to search every chip with a price"
        )
    chips: list[Chip] = []
    for position, entry in enumerate(value):
        key = f"search.chips.{position}"
        chip = resolved_at(entry, (where, folder), Chip, load_chip, key)
        if chip.id in [other.id for other in chips]:
            raise SpecError(f"{where}: {key}: a chip with the id '{chip.id}' is already listed")
        chips.append(chip)
    return tuple(chips)


def as_list(value: Any) -> Any:
    """A single text, number or mapping as a list of it: `weights: int8` is `weights: [int8]`."""
    single = isinstance(value, str | Mapping | BaseModel) or (isinstance(value, int | float) and value is not True)
    return [value] if single else value


def without_duplicates(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values. Raises ValueError where one is listed twice."""
    refuse_duplicates(values)
    return values


LIST = (AfterValidator(without_duplicates), BeforeValidator(as_list))
"""A list without duplicates, or a single value."""

Dtypes = Annotated[tuple[Dtype, ...], Field(min_length=1, max_length=6), *LIST]
Topologies = Annotated[
    tuple[Topology, ...],
    Field(min_length=1, max_length=1000),
    *LIST,
]
Chunks = Annotated[
    tuple[Tokens, ...],
    Field(min_length=1, max_length=256),
    *LIST,
]
Modes = Annotated[tuple[Mode, ...], Field(min_length=1, max_length=4), BeforeValidator(as_list)]
Stages = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=1000)], ...], Field(min_length=1, max_length=100), *LIST
]
KvLayouts = Annotated[tuple[KvLayout, ...], Field(min_length=1, max_length=4), *LIST]


class Search(Strict):
    """The search space: chips, slices, dtypes, modes, batches, and limits on all slices together."""

    chips: Annotated[tuple[Chip, ...] | None, BeforeValidator(_resolve_chips)] = None
    weights: Dtypes | None = None
    kv_cache: Dtypes | None = None
    compute: Dtypes | None = None
    modes: Modes | None = None
    chunk_tokens: Chunks = CHUNKS
    min_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] | None = None
    max_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] = 4096
    kv_layouts: KvLayouts | None = Field(
        default=None, description="Where the KV cache may lie; absent: heads and batch, and copies of a latent."
    )
    pp: Stages | None = Field(
        default=None,
        description="How many pipeline stages a replica may have; absent: any that the engines run, without any 1.",
    )
    max_quality_loss: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] | None = None
    max_chips: Count | None = None
    max_slices: Count | None = None
    max_instances: Count | None = None
    max_usd_per_hour: Positive | None = None
    quota: Annotated[dict[str, Annotated[int, Field(strict=True, ge=0, le=10**12)]], Field(max_length=1000)] = {}
    topologies: Annotated[dict[str, Topologies], Field(max_length=1000)] = {}

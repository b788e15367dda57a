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

MAX_LISTED_CHIPS = 200
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
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_LISTED_CHIPS:
        raise SpecError(
            f"{where}: search.chips = {shorten(value)}: expected 1 to {MAX_LISTED_CHIPS} ids, paths or mappings; leave "
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

    chips: Annotated[tuple[Chip, ...] | None, BeforeValidator(_resolve_chips)] = Field(
        default=None,
        description="Chips to choose from: ids, paths of chip files, or mappings with their keys; absent: every chip "
        "with a price.",
    )
    weights: Dtypes | None = Field(
        default=None,
        description="Dtypes of the weights to choose from; absent: what the engines run, and without engines bf16, "
        "int8 and the model's own.",
    )
    kv_cache: Dtypes | None = Field(
        default=None,
        description="Dtypes of the KV cache to choose from; absent: what the engines run, and without engines bf16 and "
        "int8.",
    )
    compute: Dtypes | None = Field(
        default=None,
        description="Dtypes that matmuls may run in, where the chip has a peak for them; absent: what the engines "
        "compute in, and without engines bf16.",
    )
    modes: Modes | None = Field(
        default=None,
        description="Serving modes to choose from; absent: `interleaved`, `chunked` and `disaggregated`, the last "
        "under engines where a demand sizes its pools or a constraint names them; `decode_only` without prompts.",
    )
    chunk_tokens: Chunks = Field(
        default=CHUNKS, description="Prompt tokens that may ride on a decode step, to choose from."
    )
    min_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] | None = Field(
        default=None, description="Least batch of a replica."
    )
    max_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] = Field(
        default=4096, description="Largest batch of a replica."
    )
    kv_layouts: KvLayouts | None = Field(
        default=None,
        description="Where the KV cache may lie beyond one KV head a chip: `batch`, `copies`, `sequence`; absent: what "
        "the engines have, and without engines `heads`, `batch`, and `copies` of a latent.",
    )
    pp: Stages | None = Field(
        default=None,
        description="How many pipeline stages a replica may have; absent: any that the engines run, without engines 1.",
    )
    max_quality_loss: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Largest loss of the model's score in published tests of its dtypes; 0.01 is one percent. Dtypes "
        "without a published score are excluded.",
    )
    max_chips: Count | None = Field(default=None, description="Most chips of all slices together.")
    max_slices: Count | None = Field(default=None, description="Most slices that are used.")
    max_instances: Count | None = Field(
        default=None, description="Most whole instances that are bought; needs `buy: instances`."
    )
    max_usd_per_hour: Positive | None = Field(default=None, description="Largest bill of all slices together [$/h].")
    quota: Annotated[dict[str, Annotated[int, Field(strict=True, ge=0, le=10**12)]], Field(max_length=1000)] = Field(
        default={},
        description="Chips available, by type, as in `{tpu-v5e: 64}`; types that are not listed have no limit.",
    )
    topologies: Annotated[dict[str, Topologies], Field(max_length=1000)] = Field(
        default={}, description='Slices allowed, by chip, as in `{tpu-v5e: ["4x8", "8x8"]}`; absent: all.'
    )

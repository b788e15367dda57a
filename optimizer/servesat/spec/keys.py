"""What a user writes of a deployment: the keys of a spec, and what each of them is resolved to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from servesat.catalogue.calibration import Calibration
from servesat.catalogue.engine import Engine
from servesat.catalogue.load import EVERY_OFFER, load_calibration, load_model, load_price_book
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.price_book import PriceBook, Purchase, merged
from servesat.core.errors import SpecError
from servesat.core.validation import MAY_BE_NONE, Strict, Usd, refuse_duplicates, shorten
from servesat.spec.engines import ANY, resolve_engines
from servesat.spec.expression_parser import MAX_LENGTH
from servesat.spec.lora import Lora
from servesat.spec.market import Owned, Power
from servesat.spec.offers import Buy
from servesat.spec.references import INLINE, origin_of, resolved
from servesat.spec.search_space import LIST, Search, as_list, without_duplicates
from servesat.spec.slo import Slo
from servesat.spec.speculation import Speculation
from servesat.spec.workload import Workload

DEFAULT_PRICE_BOOK = "list-2026-11"

IDEAL: Literal["ideal"] = "ideal"

CALIBRATED = "calibrated"
"""The cost models of the catalogue: the roofline of the scaling book, and one fitted to measurements."""

IN_PRODUCTION = {"engine": ANY, "price_book": EVERY_OFFER, "buy": "instances"}
"""Defaults of a spec whose cost model is not the ideal one."""

LOAD_IN_PRODUCTION = 0.85
"""Of such a spec with a demand: the share of the capacity that is used."""

MAX_CONSTRAINTS = 24
"""The most constraints of a spec."""

Constraints = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)], ...],
    Field(max_length=MAX_CONSTRAINTS),
    AfterValidator(without_duplicates),
    BeforeValidator(as_list),
]

Places = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
    Field(max_length=1000),
    *LIST,
    BeforeValidator(lambda value: () if value is None else value),
]
"""Names of clouds or regions: a list, or a single one."""

Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]


def _resolve_model(value: Any, info: ValidationInfo) -> Any:
    return resolved(value, info, ModelSpec, load_model, "model")


def _resolve_price_book(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, list | tuple) or not value:
        return resolved(value, info, PriceBook, load_price_book, "price_book")
    books = [resolved(one, info, PriceBook, load_price_book, f"price_book.{at}") for at, one in enumerate(value)]
    refuse_duplicates([book.id for book in books])
    return merged(books, " + ".join(book.id for book in books), "several price books")


def _resolve_cost_model(value: Any, info: ValidationInfo) -> Any:
    if value == IDEAL:
        return value
    if value == CALIBRATED:
        return load_calibration()
    if isinstance(value, str) and not value.endswith(".toml"):
        where, _ = origin_of(info)
        raise SpecError(
            f"{where}: cost_model = {shorten(value)}: expected `{IDEAL}`, `{CALIBRATED}`, or the path of a .toml that "
            "`servesat calibrate` wrote"
        )
    return resolved(value, info, Calibration, load_calibration, "cost_model")


def _resolve_speculation(value: Any, info: ValidationInfo) -> Any:
    return {"draft": value} if isinstance(value, str) else value


class Keys(Strict):
    """The keys of a spec, resolved: what is named by id or by path is the record that it names."""

    model: Annotated[ModelSpec, BeforeValidator(_resolve_model)] = Field(
        description="The model: an id of the catalogue, the path of a model file or of a checkpoint's `config.json`, "
        "or a mapping with the keys of a model file."
    )
    workload: Workload = Field(description="What a request is, and how many there are.")
    slo: Slo = Field(default=Slo(), description="Limits of the service.")
    search: Search = Field(default=Search(), description="What to choose from, and limits on all of it together.")
    speculative: Annotated[Speculation | None, BeforeValidator(_resolve_speculation)] = Field(
        default=None,
        description="Tokens drafted ahead of the model; `none`: none. Absent: as published, and under the ideal cost "
        "model none.",
    )
    lora: Annotated[Lora | None, MAY_BE_NONE] = Field(
        default=None, description="LoRA adapters that are served beside the model."
    )
    cost_model: Annotated[Literal["ideal"] | Calibration, BeforeValidator(_resolve_cost_model)] = Field(
        default=CALIBRATED,
        validate_default=True,
        description="`calibrated`: what machines take in fact; the path of constants of your own, from `servesat "
        "calibrate` or `servesat measure`; `ideal`: the scaling book's roofline, with its own defaults for engine, "
        "price_book and buy.",
    )
    ici: Literal["forbid", "pay"] | None = Field(
        default=None,
        description="Whether steps may wait for the interconnect, and pay for it. Of the ideal cost model; absent: "
        "`forbid`.",
    )
    wraparound: Literal["assumed", "exact"] | None = Field(
        default=None,
        description="`assumed`: every torus axis closes to a ring, as in the book; `exact`: where the slice's does, "
        "and else has half the bandwidth. Absent: `assumed` of the ideal cost model, `exact` of others.",
    )
    int4_group: Annotated[int, Field(strict=True, ge=8, le=65536)] | None = Field(
        default=None,
        description="Weights that share a scale and a zero point in an int4 checkpoint of your own; 128 makes them "
        "4.25 bits each.",
    )
    engine: Annotated[tuple[Engine, ...], BeforeValidator(resolve_engines)] = Field(
        default=(),
        description="Engines that may run the plan: `vllm`, `sglang-0.5.23`, the path of an engine file, a list of "
        "them, `any`, or `none`: the machine alone. Absent: `any`, and `none` under the ideal cost model.",
    )
    mixed_pools: Literal["allow", "forbid"] | None = Field(
        default=None,
        description="Whether prefill and decode pools may be on chips of different types; absent: `forbid` under "
        "engines, else `allow`.",
    )
    headroom: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Share of the memory that is kept free; absent: what the engine keeps, and 0 without one.",
    )
    prefill_mfu: Share | None = Field(
        default=None, description="Share of the peak that prefill reaches. Of the ideal cost model; absent: 1."
    )
    utilisation: Share = Field(
        default=1.0,
        description="Share of the capacity that may be used, as a full server has infinite queues; with a demand 0.85 "
        "unless the cost model is ideal.",
    )
    spot_capacity: Share = Field(
        default=1.0, description="Share of the capacity of slices on spot that is counted on; the rest is spare."
    )
    price_book: Annotated[PriceBook, BeforeValidator(_resolve_price_book)] = Field(
        default=DEFAULT_PRICE_BOOK,
        validate_default=True,
        description="Where prices come from: an id of the catalogue, the path of a price book, a mapping with its "
        "keys, a list of them, or `all`: every offer of every cloud. Absent: `all`, and under the ideal cost model "
        f"`{DEFAULT_PRICE_BOOK}`.",
    )
    cloud: Places = Field(default=(), description="Clouds to rent at; absent: any.")
    region: Places = Field(default=(), description="Regions to rent in; absent: any.")
    purchase: Annotated[tuple[Purchase, ...], Field(min_length=1, max_length=4), *LIST] = Field(
        default=("on_demand",), description="Ways to buy: `on_demand`, `spot`, `reserved`, `owned`."
    )
    buy: Buy = Field(
        default="share",
        description="`instances`: pay for whole machines that hold the slices; `share`: for a share of them, as if the "
        "rest found other work. Absent: `instances`, and `share` under the ideal cost model.",
    )
    price: dict[str, Usd] = Field(
        default={},
        description="Your own prices in $ a chip-hour, by chip, as in `{tpu-v5e: 0.9}`; they replace every other. "
        "With `purchase: spot` or `reserved` they are those of such chips.",
    )
    owned: dict[str, Owned] = Field(
        default={}, description="Machines that you own, by chip; searched with `purchase: owned`."
    )
    power: Power = Field(default=Power(), description="What electricity costs; rented machines include it.")
    constraints: Constraints = Field(
        default=(),
        description="Further conditions on a plan, as in `batch % 8 == 0`; docs/constraints.md has the language.",
    )
    chip: dict[str, dict[str, Any]] = Field(
        default={},
        description="Fields of chips in place of the catalogue's, by chip, as in `{tpu-v5e: {hbm_bytes: 32e9}}`; "
        "`usable_hbm_bytes` is scaled with `hbm_bytes` unless it is given.",
    )
    _origin: tuple[str, Path] = PrivateAttr(default=(INLINE, Path()))
    _varied: dict[str, float] = PrivateAttr(default={})

    @model_validator(mode="before")
    @classmethod
    def _as_in_production(cls, data: Any) -> Any:
        """Unless the cost model is the ideal one, what runs plans and what they are bought as is production's."""
        if not isinstance(data, Mapping) or data.get("cost_model") == IDEAL:
            return data
        if _has_demand(data.get("workload")):
            data = {"utilisation": LOAD_IN_PRODUCTION, **data}
        return {**IN_PRODUCTION, **data}

    @model_validator(mode="after")
    def _remember_origin(self, info: ValidationInfo) -> Self:
        self._origin = origin_of(info)
        self._varied = (info.context or {}).get("varied", {})
        return self


def _has_demand(workload: Any) -> bool:
    """Whether a workload, as it is written or read, has a rate of its own or that of a trace."""
    if isinstance(workload, Workload):
        return workload.requests_per_s is not None
    if not isinstance(workload, Mapping):
        return False
    arrivals = workload.get("arrivals")
    has_trace = isinstance(arrivals, str | Mapping) and arrivals not in ("poisson", {})
    return workload.get("requests_per_s") is not None or has_trace

"""A spec: the model, the workload, the service levels and the search of a deployment."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from servesat.catalogue.calibration import Calibration, Errors
from servesat.catalogue.chip import Chip, chips_in, offered_topology
from servesat.catalogue.drafts import DraftMethod
from servesat.catalogue.engine import Engine
from servesat.catalogue.load import (
    EVERY_OFFER,
    chip_ids,
    engine_ids,
    load_calibration,
    load_model,
    load_price_book,
    model_ids,
)
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.price_book import PriceBook, Purchase, merged
from servesat.catalogue.record import Sourced
from servesat.core.errors import CatalogueError, SpecError
from servesat.core.plan import KvLayout, Mode
from servesat.core.reading import read_mapping
from servesat.core.validation import Dtype, Strict, Usd, fault_lines, nearest, refuse_duplicates, shorten, validate
from servesat.cost_model.quantisation_loss import quality_notes
from servesat.cost_model.speculation import Drafting
from servesat.spec.engines import (
    ANY,
    NONE,
    computes_by_default,
    kv_caches_by_default,
    kv_layouts_by_default,
    resolve_engines,
    weights_by_default,
)
from servesat.spec.expression_parser import MAX_LENGTH, parse
from servesat.spec.expressions import Expression, ExpressionError
from servesat.spec.market import Market, Owned, Power
from servesat.spec.notes import (
    stale_nominal_parameters,
    stale_prices,
    uncounted_slices,
    unknown_priced_chips,
    unusable_chips,
    unused_drafts,
    unused_purchases,
)
from servesat.spec.offers import Buy, Offer
from servesat.spec.overrides import split_key, with_value
from servesat.spec.references import INLINE, origin_of, resolved, resolved_at
from servesat.spec.search_space import LIST, Search, as_list, chips_at, without_duplicates
from servesat.spec.speculation import NO_DRAFTING, DraftChoice, Speculation, draft_choices, drafting_of
from servesat.spec.workload import LIMITS, Slo, Workload

DEFAULT_PRICE_BOOK = "list-2026-11"

NEAR_LOSSLESS = ("bf16", "int8")
"""Weights dtypes searched by default, with the dtype in which the model is published."""

IDEAL: Literal["ideal"] = "ideal"
CALIBRATED = "calibrated"
"""The cost models of the catalogue: the roofline of the scaling book, and one fitted to measurements."""

IN_PRODUCTION = {"engine": ANY, "price_book": EVERY_OFFER, "buy": "instances"}
"""Defaults of a spec whose cost model is not the ideal one."""

LOAD_IN_PRODUCTION, PERCENTILE_IN_PRODUCTION = 0.85, 0.95
"""Of such a spec with a demand: the share of the capacity that is used, and of the requests that are within limits."""

WHOLE_REQUEST = (Mode.INTERLEAVED, Mode.CHUNKED, Mode.DISAGGREGATED)
"""Modes that also serve prompts: the default for a workload with prompts."""

KEYED_BY_CHIP = ("price", "chip", "owned")
"""Keys of a spec that map chip ids to values, for chips that are searched and others."""

MARKET = ("price_book", "cloud", "region", "purchase")
"""Keys of a spec that say where prices come from."""

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


def _fields_of_model(model: Any, where: str, folder: Path) -> Any:
    """The fields of a model as a mapping, so that an override can change one of them. Raises SpecError."""
    if isinstance(model, str):
        model = resolved_at(model, (where, folder), ModelSpec, load_model, "model")
    return model.model_dump() if isinstance(model, ModelSpec) else model


class Spec(Strict):
    """A deployment to plan. `Spec.load` reads it from a file or a mapping."""

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
    wraparound: Literal["assumed", "exact"] = Field(
        default="assumed",
        description="`assumed`: every torus axis closes to a ring, as in the book; `exact`: where the chip's does, and "
        "else has half the bandwidth.",
    )
    int4_group: Annotated[int, Field(strict=True, ge=8, le=65536)] | None = Field(
        default=None, description="Weights of int4 that share a scale and a zero point; 128 makes them 4.25 bits each."
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
        description="Your own prices in $ a chip-hour, by chip, as in `{tpu-v5e: 0.9}`; they replace every other.",
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
        description="Fields of chips in place of the catalogue's, by chip, as in `{tpu-v5e: {hbm_bytes: 32e9}}`.",
    )
    _origin: tuple[str, Path] = PrivateAttr(default=(INLINE, Path()))
    _varied: dict[str, float] = PrivateAttr(default={})

    def __init__(self, **keys: Any) -> None:
        """Build a spec from its keys, which are those of a file; paths are relative to the working directory.

        Raises SpecError with one line per fault.
        """
        try:
            super().__init__(**keys)
        except ValidationError as fault:
            raise SpecError(fault_lines(type(self), fault, INLINE)) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # files are validated past it

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """The keys that are not by default, and those with two defaults; what the catalogue has by its id."""
        shown = _shown(self)
        if self.cost_model_name == CALIBRATED:
            shown = {key: value for key, value in shown.items() if key != "cost_model"}
        yield from (shown | {key: _shown(getattr(self, key)) for key in IN_PRODUCTION}).items()

    def __str__(self) -> str:
        return repr(self)

    @classmethod
    def load(
        cls,
        source: "Spec | Mapping[str, Any] | str | Path",
        overrides: Mapping[str, Any] | None = None,
        *,
        folder: Path = Path(),
    ) -> "Spec":
        """Read a spec from a YAML file or a mapping, with dotted `overrides` such as `slo.tpot_ms`.

        Paths inside a file are relative to the file, inside a mapping to `folder`. A Spec is returned as it is. Raises
        SpecError with one line per fault.
        """
        if isinstance(source, Spec):
            if overrides:
                raise SpecError("overrides apply to a mapping or a file, not to a Spec that is already resolved")
            return source
        data, where, folder = read_mapping(source, INLINE, cls.model_fields, SpecError, folder)
        if "workloads" in data and "model" not in data:
            raise SpecError(f"{where}: is a fleet, as it has workloads; expected a deployment: try `servesat fleet`")
        if "deployments" in data and "model" not in data:
            raise SpecError(
                f"{where}: is a portfolio, as it has deployments; expected a deployment: try `servesat portfolio`"
            )
        for key, value in (overrides or {}).items():
            if key.startswith("model."):
                data = {**data, "model": _fields_of_model(data.get("model"), where, folder)}
            data = with_value(data, split_key(key), value, key)
        return validate(cls, data, where=where, error=SpecError, context={"where": where, "folder": folder})

    def changed(self, changes: Mapping[str, Any]) -> "Spec":
        """Copy the spec with changes at dotted keys such as `slo.tpot_ms`, validated again. Raises SpecError.

        `model.FIELD` and `chip.ID.FIELD` change a field of the model or of a chip. A new `search.chips` may name a chip
        of the old list by its id. A new `price.CHIP` is paid where the old one was, by the price book.
        """
        markets = {key: value for key, value in changes.items() if key in MARKET}
        prices = {key: value for key, value in changes.items() if split_key(key)[0] == "price" and key != "price"}
        if markets and prices:  # a price varies what that market asks
            others = {key: value for key, value in changes.items() if key not in prices}
            return self.changed(others).changed(prices)
        where, folder = self._origin
        parts = {key: getattr(self, key) for key in type(self).model_fields}
        data: dict[str, Any] = {
            key: dict(part) if isinstance(part, Workload | Slo | Search | Power) else part
            for key, part in parts.items()
        }
        data["owned"] = {chip: dict(machine) for chip, machine in self.owned.items()}
        for key, value in sorted(changes.items(), key=lambda change: len(split_key(change[0]))):
            if key.startswith("model."):
                data = {**data, "model": _fields_of_model(data["model"], where, folder)}
            new = self._with_listed_chips(value) if key == "search.chips" else value
            data = with_value(data, split_key(key), new, key)
        if "search.chips" in changes:
            chips = chips_at(data["search"]["chips"], where, folder)
            data = _without_unknown_chips({**data, "search": {**data["search"], "chips": chips}}, chips or ())
        context = {"where": where, "folder": folder, "varied": self._prices_varied_by(changes)}
        return validate(type(self), data, where=where, error=SpecError, context=context)

    def _prices_varied_by(self, changes: Mapping[str, Any]) -> dict[str, float]:
        """The lowest prices in the book of the chips whose prices this spec, or its changes, vary."""
        if {*MARKET, "price"} & changes.keys():
            return {}
        changed = {split_key(key)[1] for key in changes if split_key(key)[0] == "price"}
        lowest = {chip_id: offers[0] for chip_id, offers in self._offers_by_chip.items() if chip_id in changed}
        of_book = {name: offer.usd_per_chip_hour for name, offer in lowest.items() if offer.price is not None}
        return of_book | self._varied

    def constrained(self, constraints: Iterable[str]) -> "Spec":
        """The spec with further constraints, each once. Raises SpecError."""
        return self.changed({"constraints": tuple(dict.fromkeys((*self.constraints, *constraints)))})

    def _with_listed_chips(self, chips: Any) -> Any:
        """Replace ids of chips that this spec lists, perhaps as inline records, by those chips."""
        listed = {chip.id: chip for chip in self.search.chips or ()}
        if not isinstance(chips, list | tuple):
            return chips
        return [listed.get(chip, chip) if isinstance(chip, str) else chip for chip in chips]

    def notes_on(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Notes on what a change of these keys leaves unchanged, against what a reader might expect."""
        return tuple(stale_nominal_parameters(self.model, keys))

    @model_validator(mode="before")
    @classmethod
    def _as_in_production(cls, data: Any) -> Any:
        """Unless the cost model is the ideal one, what runs plans and what they are bought as is production's."""
        if not isinstance(data, Mapping) or data.get("cost_model") == IDEAL:
            return data
        workload = data.get("workload")
        if isinstance(workload, Mapping) and {"requests_per_s", "arrivals"} & set(workload):
            data = {"utilisation": LOAD_IN_PRODUCTION, **data}
        return {**IN_PRODUCTION, **data}

    @model_validator(mode="after")
    def _remember_origin(self, info: ValidationInfo) -> Self:
        self._origin = origin_of(info)
        self._varied = (info.context or {}).get("varied", {})
        return self

    @model_validator(mode="after")
    def _search_is_possible(self) -> Self:
        self._market.check_narrowed()
        if self.search.max_instances is not None and self.buy != "instances":
            raise ValueError("search.max_instances: counts whole instances, and needs buy: instances")
        known = [*(chip.id for chip in self.chips), *(chip.id for chip in self.search.chips or ())]
        known = list(dict.fromkeys(known))
        for key in KEYED_BY_CHIP:
            for chip_id in getattr(self, key):
                if chip_id not in known and chip_id not in chip_ids():
                    raise ValueError(f"{key}.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
        for chip_id in self.search.topologies:
            if chip_id not in known:
                raise ValueError(f"search.topologies.{chip_id}: is not among the chips searched: {', '.join(known)}")
        for chip_id in self.search.quota:
            if chip_id not in known and chip_id not in chip_ids():
                raise ValueError(f"search.quota.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
        offered = {chip.id for chip in self.chips}
        for chip in (*self.chips, *(chip for chip in self.search.chips or () if chip.id not in offered)):
            self._check_topologies(chip)
        self._check_modes()
        self._check_cost_model()
        if self.speculative is not None:
            self._check_drafts()
        self._check_percentiles()
        self._check_constraints()
        if not any(dtype in chip.flop_per_s.by_dtype() for chip in self.chips for dtype in self.compute):
            peaks = "; ".join(f"{chip.id}: {', '.join(chip.flop_per_s.by_dtype())}" for chip in self.chips)
            raise ValueError(
                f"search.compute = {list(self.compute)}: no chip searched has a peak for these dtypes ({peaks})"
            )
        return self

    def _check_modes(self) -> None:
        with_prompts = [mode for mode in self.modes if mode is not Mode.DECODE_ONLY]
        if with_prompts and self.workload.prompt_tokens is None:
            raise ValueError(f"search.modes: {with_prompts[0]} needs workload.prompt_tokens and workload.output_tokens")
        if Mode.DECODE_ONLY in self.modes and len(self.modes) > 1:
            raise ValueError("search.modes: decode_only leaves the prompts out, so it does not compare with the others")
        if self.modes == (Mode.DISAGGREGATED,) and not any(chip.network_bytes_per_s for chip in self.chips):
            names = ", ".join(chip.id for chip in self.chips)
            raise ValueError(
                f"search.modes: disaggregated moves KV caches over the network, and no network_bytes_per_s is known of "
                f"{names}; give it, as in chip.{self.chips[0].id}.network_bytes_per_s"
            )
        for key in ("ttft_ms", "e2e_ms"):
            if not with_prompts and getattr(self.slo, key) is not None:
                raise ValueError(
                    f"slo.{key}: decode_only has no first token; give workload.prompt_tokens and output_tokens, and "
                    "leave out search.modes"
                )
        if self.workload.requests_per_s is not None and self.slo.min_tokens_per_s is not None:
            raise ValueError("slo.min_tokens_per_s: workload.requests_per_s already says how much is served; give one")
        if self.search.min_batch is not None and self.search.min_batch > self.search.max_batch:
            raise ValueError(
                f"search.min_batch = {self.search.min_batch} is more than search.max_batch = {self.search.max_batch}"
            )

    def _check_drafts(self) -> None:
        try:
            chosen = self.drafts
        except CatalogueError as fault:
            raise ValueError(f"speculative.draft: {fault}") from None
        able = {kind for engine in self.engine for kind in engine.drafts}
        lacking = [one.draft for one in chosen if self.engine and one.kind not in able]
        if lacking and len(lacking) == len(chosen):
            raise ValueError(f"speculative.draft = {lacking[0]}: no engine of the spec drafts with it")

    def _check_percentiles(self) -> None:
        slo = self.slo
        stated = {"percentile": slo.percentile, "percentiles": slo.percentiles, "goodput": slo.goodput}
        for key, value in stated.items():
            if value and value != "mean" and self.workload.requests_per_s is None:
                raise ValueError(f"slo.{key}: holds of requests that arrive: give workload.requests_per_s")
            if value and key != "percentile" and slo.percentile == "mean":
                raise ValueError(f"slo.{key}: has no meaning beside slo.percentile: mean")
        if slo.goodput is not None and all(getattr(slo, key) is None for key in LIMITS):
            raise ValueError(
                f"slo.goodput: is the share of requests within limits, and none of {', '.join(LIMITS)} is given"
            )

    def _check_cost_model(self) -> None:
        for key in ("ici", "prefill_mfu"):
            if self.calibration is not None and getattr(self, key) is not None:
                raise ValueError(f"{key}: is of `cost_model: ideal`; the calibrated one has what was measured")
        model, nominal = self.model, self.model.nominal_parameters
        tables = model.d_model * model.vocab_size * (1 if model.tied_embeddings else 2)
        if self.calibration is not None and nominal is not None and nominal < tables:
            raise ValueError(
                f"model.nominal_parameters = {nominal:g}: fewer than the {tables:,} of embedding and head, which the "
                "calibrated cost model counts apart"
            )

    @property
    def calibration(self) -> Calibration | None:
        """The constants of the calibrated cost model; None under the ideal one."""
        return None if isinstance(self.cost_model, str) else self.cost_model

    @property
    def cost_model_name(self) -> str:
        """What the cost model is called: ideal, calibrated, or the name of the user's own constants."""
        if self.calibration is None:
            return IDEAL
        return CALIBRATED if self.calibration.id == load_calibration().id else self.calibration.name

    @property
    def percentile(self) -> float | None:
        """The share of requests that must be within each limit; None where means are compared, or nothing arrives."""
        stated = self.slo.percentile
        if self.workload.requests_per_s is None or stated == "mean" or self.modes == (Mode.DECODE_ONLY,):
            return None
        if isinstance(stated, float):
            return stated
        asked = self.calibration is not None or self.slo.percentiles or self.slo.goodput
        return PERCENTILE_IN_PRODUCTION if asked else None

    @property
    def forbids_ici(self) -> bool:
        """Whether no matmul may wait for the interconnect, as the ideal cost model leaves collectives out."""
        return self.calibration is None and self.ici != "pay"

    @property
    def pays_ici(self) -> bool:
        """Whether the ideal cost model counts collectives; the calibrated one always does, as it was fitted."""
        return self.calibration is None and self.ici == "pay"

    @property
    def mfu_of_prefill(self) -> float:
        """The share of the peak that prefill reaches under the ideal cost model."""
        return self.prefill_mfu or 1.0

    def _check_constraints(self) -> None:
        for position, expression in enumerate(self.expressions):
            try:
                for key in expression.keys:
                    self.number_at(key)
                for key in expression.divisors:
                    if self.number_at(key) == 0:
                        raise ValueError(f"divides by {key}, which is 0")
            except ValueError as fault:
                raise ValueError(f"constraints.{position} = {shorten(expression.text)}: {fault}") from None

    def number_at(self, key: str) -> Fraction:
        """The number at a dotted key, exactly. Raises ValueError where there is none."""
        value: Any = self
        for name in key.split("."):
            fields = type(value).model_fields if isinstance(value, BaseModel) else {}
            if name not in fields:
                raise ValueError(f"{key}: no such key of the spec; {nearest(name, fields)}")
            value = getattr(value, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            is_none = "is not given" if value is None else "is no number"
            raise ValueError(f"{key} {is_none}, expected a key of the spec with a number")
        return Fraction(str(value))

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """The constraints, parsed. Raises ValueError for one that cannot be."""
        parsed = []
        for position, text in enumerate(self.constraints):
            try:
                parsed.append(parse(text, self.constrainable_texts))
            except ExpressionError as fault:
                raise ValueError(f"constraints.{position} = {shorten(text)}: {fault}") from None
        return tuple(parsed)

    @cached_property
    def constrainable_texts(self) -> set[str]:
        """The texts that a constraint may name without quotation marks."""
        prices = [price for prices in self.price_book.prices.values() for price in prices]
        of_prices = {name for price in prices for name in (price.cloud, price.region, price.instance) if name}
        chips = {*chip_ids(), *(chip.id for chip in self.search.chips or ())}
        run = {*engine_ids(), *(engine.id for engine in self.engine), *get_args(DraftMethod)}
        drafts = {*model_ids(), *(draft.draft for draft in self.drafts)}
        return {*chips, *of_prices, *run, *drafts, *get_args(Dtype), *get_args(Purchase), *Mode, *KvLayout}

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights dtypes searched: those listed, else bf16, int8 and the dtype in which the model is published.

        Under engines instead of bf16 and int8 what one of them makes of the model, or a checkpoint has.
        """
        if self.search.weights is not None:
            return self.search.weights
        if self.engine:
            return weights_by_default(self.engine, self.model)
        native = () if self.model.native is None else (self.model.native.dtype,)
        return tuple(dict.fromkeys((*native, *NEAR_LOSSLESS)))

    @property
    def kv_cache(self) -> tuple[str, ...]:
        """The dtypes of the KV cache searched: those listed, else bf16 and int8, or what engines store."""
        if self.search.kv_cache is not None:
            return self.search.kv_cache
        return kv_caches_by_default(self.engine, self.model) if self.engine else NEAR_LOSSLESS

    @property
    def compute(self) -> tuple[str, ...]:
        """The dtypes of the matmuls searched: those listed, else bf16, or what engines compute in."""
        if self.search.compute is not None:
            return self.search.compute
        if not self.engine:
            return ("bf16",)
        computes = computes_by_default(self.engine, self.weights)
        peaks = {dtype for chip in self.chips for dtype in chip.flop_per_s.by_dtype()}
        return computes if peaks & set(computes) else ("bf16",)

    @property
    def kept_free(self) -> float:
        """The share of the memory that is kept free: the headroom, if the spec states one."""
        return self.headroom or 0.0

    @property
    def mixes_pools(self) -> bool:
        """Whether prefill and decode pools may be on chips of different types: as stated, else without engines."""
        return not self.engine if self.mixed_pools is None else self.mixed_pools == "allow"

    def without_engines(self) -> "Spec":
        """The spec without engines; where it lists nothing, all that they and the ideal machine would search is."""
        alone, search = self.changed({"engine": NONE}), self.search
        keys: dict[str, Any] = {
            f"search.{name}": tuple(dict.fromkeys((*getattr(self, name), *getattr(alone, name))))
            for name in ("weights", "kv_cache", "compute", "kv_layouts", "modes")
            if getattr(search, name) is None
        }
        return alone.changed(keys)

    @property
    def engine_ids(self) -> tuple[str, ...]:
        """The ids of the engines, as dtypes name them; an empty one without engines."""
        return tuple(engine.id for engine in self.engine) or ("",)

    @cached_property
    def _engines_by_id(self) -> dict[str, Engine]:
        return {engine.id: engine for engine in self.engine}

    def engine_of(self, engine_id: str) -> Engine:
        """An engine of the spec by its id."""
        return self._engines_by_id[engine_id]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The serving modes searched: those listed, else all for whole requests, or decode_only without prompts.

        Under engines pools are searched for a demand, or where they are listed: without one, any number is as good.
        """
        if self.search.modes is not None:
            return self.search.modes
        if self.workload.prompt_tokens is None:
            return (Mode.DECODE_ONLY,)
        if not self.engine or self.workload.requests_per_s:
            return WHOLE_REQUEST
        return (Mode.INTERLEAVED, Mode.CHUNKED)

    @property
    def kv_layouts(self) -> tuple[KvLayout, ...]:
        """The KV layouts searched: those listed, else heads and the scaling book's batch, and copies of a latent."""
        if self.search.kv_layouts is not None:
            return self.search.kv_layouts
        if self.engine:
            return kv_layouts_by_default(self.engine, self.model)
        book = (KvLayout.HEADS, KvLayout.BATCH)
        return book if self.model.mla is None else (*book, KvLayout.COPIES)

    def stages_of(self, chip: str) -> tuple[int, ...] | None:
        """The numbers of pipeline stages searched on a chip: those listed, else 1; None, any, where an engine can.

        Of the ideal cost model 1, which knows no engine's reasons for more.
        """
        if self.search.pp is not None:
            return self.search.pp
        able = any(one.pipelines != "none" and one.support_of(chip) is not None for one in self.engine)
        return None if able and self.calibration is not None else (1,)

    @cached_property
    def drafts(self) -> tuple[DraftChoice, ...]:
        """What may draft tokens ahead of the model: as stated, else by the calibrated cost model what was published."""
        if self.speculative is None and (self.calibration is None or not self.engine):
            return ()
        stated = self.speculative or Speculation()
        by_id = stated.draft not in {None, NO_DRAFTING, "mtp", "eagle3"}
        return draft_choices(stated, self.model, load_model(str(stated.draft)) if by_id else None)

    def drafting_of(self, draft: str | None, tokens: int, weights: str) -> Drafting:
        """What a draft takes beside the model with weights in a dtype; nothing without one."""
        found = [one for one in self.drafts if (one.draft, one.tokens) == (draft or "", tokens)]
        return drafting_of(found[0] if found else None, self.model, weights, self.int4_group)

    def errors_of(self, chip: str, engine_id: str | None) -> Errors:
        """How far the predicted times of plans on a chip, under an engine or none, are off; 0 of a bound's."""
        if self.calibration is None:
            return Errors(tpot=0.0, ttft=0.0)
        return self.calibration.errors_of(chip, self.engine_of(engine_id) if engine_id else None)

    def margins_of(self, chip: str, engine_id: str | None) -> Errors:
        """By what share the times of such plans stay below their limits: as the spec states, or by their errors."""
        stated = self.slo.margin
        return self.errors_of(chip, engine_id) if stated is None else Errors(tpot=stated, ttft=stated)

    def in_means(self) -> "Spec":
        """The spec with its limits on means, as without a queue."""
        if self.percentile is None:
            return self
        return self.changed({"slo.percentile": "mean", "slo.percentiles": {}, "slo.goodput": None})

    @property
    def notes_on_means(self) -> tuple[str, ...]:
        """The note of a question that compares means, where limits are of a share of the requests."""
        if self.percentile is None:
            return ()
        share = f"{self.percentile:.0%}"
        return (f"limits hold for means here, not for {share} of the requests, as `servesat solve` does",)

    def counted_share(self, purchase: str | None) -> float:
        """The share of a slice's capacity that is counted on, as it is bought: on spot some of it is spare."""
        return self.spot_capacity if purchase == "spot" else 1.0

    def in_one_pool(self) -> "Spec":
        """The spec without disaggregated plans, for questions that leave them out. Raises SpecError if none remain."""
        modes = [mode for mode in self.modes if mode is not Mode.DISAGGREGATED]
        if not modes:
            raise SpecError(f"{self._origin[0]}: search.modes: disaggregated alone, expected a mode with one pool too")
        return self.changed({"search.modes": modes}) if len(modes) < len(self.modes) else self

    def _check_topologies(self, chip: Chip) -> None:
        named: dict[str, str] = {}
        for topology in self.search.topologies.get(chip.id, ()):
            offered = offered_topology(chip, topology)
            if offered is None:
                raise ValueError(
                    f"search.topologies.{chip.id}: {topology!r} is not offered; offered: {', '.join(chip.topologies)}"
                )
            if offered in named:
                raise ValueError(f"search.topologies.{chip.id}: {named[offered]!r} and {topology!r} are the same slice")
            named[offered] = topology

    @cached_property
    def offers(self) -> tuple[Offer, ...]:
        """What can be rented of the chips listed, else of every chip with a price, sorted by id; the cheapest first.

        A price comes from the spec, else from the chip, else from the price book. Raises ValueError where none has one.
        """
        return self._market.offers(self.search.chips)

    @cached_property
    def _offers_by_chip(self) -> dict[str, list[Offer]]:
        return {name: list(offers) for name, offers in groupby(self.offers, lambda offer: offer.chip.id)}

    @cached_property
    def chips(self) -> tuple[Chip, ...]:
        """The chips searched: those that have an offer."""
        return tuple(offers[0].chip for offers in self._offers_by_chip.values())

    def offers_of(self, chip: str) -> Sequence[Offer]:
        """The offers of a chip, the cheapest first; none of a chip that is not searched."""
        return self._offers_by_chip.get(chip, ())

    @property
    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue with a price in the spec or its price book, sorted by id."""
        return self._market.priced_catalogue_chips()

    @cached_property
    def _market(self) -> Market:
        return Market(
            price_book=self.price_book,
            purchases=self.purchase,
            regions=self.region,
            clouds=self.cloud,
            prices=self.price,
            owned=self.owned,
            power=self.power,
            varied=self._varied,
            chip_fields=self.chip,
            where=self._origin[0],
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what has no effect: chips without a price or a peak in the dtypes, prices of unknown chips."""
        chips, search = self.chips, self.search
        return (
            *unusable_chips(chips, self.compute, disaggregated=Mode.DISAGGREGATED in self.modes),
            *self._market.unpriced(search.chips or ()),
            *unknown_priced_chips(self.price_book, chips),
            *stale_prices(self.price_book),
            *unused_purchases(
                self.offers,
                owned=bool(self.owned) and "owned" not in self.purchase,
                spot=self.spot_capacity < 1 and all(offer.purchase != "spot" for offer in self.offers),
                whole=self.buy == "instances" and self.calibration is None,  # where it is stated, not by default
            ),
            *unused_drafts(
                None if self.speculative is None else self.speculative.draft,
                staged=search.pp is not None and 1 not in search.pp,
                pooled=self.modes == (Mode.DISAGGREGATED,),
            ),
            *uncounted_slices(
                self.expressions,
                pools_without_demand=Mode.DISAGGREGATED in self.modes and self.workload.requests_per_s is None,
            ),
            *(
                quality_notes(self.model, self.weights, self.kv_cache, self.compute)
                if search.max_quality_loss is not None
                else ()
            ),
        )

    def topologies_of(self, chip: Chip) -> tuple[str, ...]:
        """The slices of a chip that may be chosen, by number of chips."""
        named = [offered_topology(chip, topology) for topology in self.search.topologies.get(chip.id, ())]
        searched = [topology for topology in named if topology is not None] or chip.topologies
        return tuple(sorted(searched, key=lambda topology: (chips_in(topology), topology)))


def _shown(value: Any) -> Any:
    """What of a record is not by default, as a mapping; of a record with an id that."""
    if isinstance(value, Sourced):
        return value.id
    if isinstance(value, BaseModel):
        fields = {name: (getattr(value, name), field.default) for name, field in type(value).model_fields.items()}
        return {name: _shown(own) for name, (own, default) in fields.items() if default not in (own, _shown(own))}
    return [_shown(member) for member in value] if isinstance(value, tuple) else value


def _without_unknown_chips(data: Mapping[str, Any], listed: Sequence[Chip]) -> dict[str, Any]:
    """Drop prices, fields and quotas of chips that are neither listed nor in the catalogue."""
    known = {*chip_ids(), *(chip.id for chip in listed)}

    def of_known(by_chip: Mapping[str, Any]) -> dict[str, Any]:
        return {chip: value for chip, value in by_chip.items() if chip in known}

    search = {**data["search"], "quota": of_known(data["search"]["quota"])}
    return {**data, **{key: of_known(data[key]) for key in KEYED_BY_CHIP}, "search": search}

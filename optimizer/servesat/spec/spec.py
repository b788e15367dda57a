"""A spec: the model, the workload, the service levels and the search of a deployment."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from servesat.catalogue.chip import Chip
from servesat.catalogue.drafts import drafts_of
from servesat.catalogue.load import chip_ids, load_model
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.record import Sourced
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.reading import read_mapping
from servesat.core.validation import fault_lines, validate
from servesat.cost_model.quantisation_loss import quality_notes
from servesat.spec.checks import KEYED_BY_CHIP, check
from servesat.spec.engines import NONE
from servesat.spec.keys import CALIBRATED, IN_PRODUCTION
from servesat.spec.notes import (
    left_out_beside_adapters,
    left_out_beside_host_cache,
    lengths_beside_a_trace,
    pauses_by_step,
    prefixes_of_states,
    presumed_step_factor,
    short_context,
    stale_host_hit,
    stale_means,
    stale_nominal_parameters,
    stale_prices,
    throughput_of_one_slice,
    too_long_requests,
    uncounted_slices,
    unknown_priced_chips,
    unusable_chips,
    unused_drafts,
    unused_purchases,
)
from servesat.spec.overrides import split_key, with_value
from servesat.spec.references import INLINE, resolved_at
from servesat.spec.search_space import chips_at
from servesat.spec.searched import Searched

MARKET = ("price_book", "cloud", "region", "purchase")
"""Keys of a spec that say where prices come from."""


def _check_limits_stated_once(data: Mapping[str, Any], where: str) -> None:
    """Check that no limit on a time has a number of its own beside percentiles. Raises SpecError."""
    slo = data.get("slo")
    named = slo.get("percentiles") if isinstance(slo, Mapping) else None
    if not isinstance(slo, Mapping) or not isinstance(named, Mapping):
        return
    for key, limits in named.items():
        own, values = slo.get(key), limits.values() if isinstance(limits, Mapping) else ()
        stated = [value for value in values if isinstance(value, int | float)]
        if isinstance(own, int | float) and own != min(stated, default=own):
            raise SpecError(f"{where}: slo.{key} = {own:g} beside slo.percentiles.{key}: give one of them")


def _fields_of_model(model: Any, where: str, folder: Path) -> Any:
    """The fields of a model as a mapping, so that an override can change one of them. Raises SpecError."""
    if isinstance(model, str):
        model = resolved_at(model, (where, folder), ModelSpec, load_model, "model")
    return model.model_dump() if isinstance(model, ModelSpec) else model


class Spec(Searched):
    """A deployment to plan. `Spec.load` reads it from a file or a mapping."""

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
        _check_limits_stated_once(data, where)
        return validate(cls, data, where=where, error=SpecError, context={"where": where, "folder": folder})

    def changed(self, changes: Mapping[str, Any]) -> "Spec":
        """Copy the spec with changes at dotted keys such as `slo.tpot_ms`, validated again. Raises SpecError.

        `model.FIELD` and `chip.ID.FIELD` change a field of the model or of a chip. A new `search.chips` may name a chip
        of the old list by its id. A new `price.CHIP` is paid where the old one was, by the price book.
        """
        if wrong := [key for key in changes if not isinstance(key, str)]:
            raise SpecError(f"changes: {wrong[0]!r}: expected dotted keys, such as slo.tpot_ms")
        markets = {key: value for key, value in changes.items() if key in MARKET}
        prices = {key: value for key, value in changes.items() if split_key(key)[0] == "price" and key != "price"}
        if markets and prices:  # a price varies what that market asks
            others = {key: value for key, value in changes.items() if key not in prices}
            return self.changed(others).changed(prices)
        where, folder = self._origin
        data: dict[str, Any] = {key: getattr(self, key) for key in type(self).model_fields}
        if "utilisation" not in self.model_fields_set:  # a demand has another default
            del data["utilisation"]
        if replaced := {name for name in self.slo.percentiles if f"slo.{name}" in changes}:
            kept = {name: limits for name, limits in self.slo.percentiles.items() if name not in replaced}
            data = with_value(data, ["slo", "percentiles"], kept, "slo.percentiles")
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
        of_book = {
            name: offer.usd_per_chip_hour
            for name, offer in lowest.items()
            if name not in self.price and offer.chip.usd_per_chip_hour is None
        }
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
        changed = tuple(keys)
        return (*stale_nominal_parameters(self.model, changed), *stale_host_hit(self.workload, changed))

    def notes_on_scenarios(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The notes on these keys in scenarios that start from this spec."""
        varied = tuple(keys)
        return (*self.notes_on(varied), *stale_means(self.workload, varied))

    @model_validator(mode="after")
    def _search_is_possible(self) -> Self:
        self._market.check_narrowed()
        check(self)
        return self

    def without_engines(self) -> "Spec":
        """The spec without engines; where it lists nothing, all that they and the ideal machine would search is."""
        alone, search = self.changed({"engine": NONE}), self.search
        keys: dict[str, Any] = {
            f"search.{name}": tuple(dict.fromkeys((*getattr(self, name), *getattr(alone, name))))
            for name in ("weights", "kv_cache", "compute", "kv_layouts", "modes")
            if getattr(search, name) is None
        }
        return alone.changed(keys)

    def in_means(self) -> "Spec":
        """The spec with its limits on means, as without a queue."""
        if self.percentile is None:
            return self
        return self.changed({"slo.percentile": "mean", "slo.percentiles": {}, "slo.goodput": None})

    def in_one_pool(self) -> "Spec":
        """The spec without disaggregated plans, for questions that leave them out. Raises SpecError if none remain."""
        modes = [mode for mode in self.modes if mode is not Mode.DISAGGREGATED]
        if not modes:
            raise SpecError(f"{self._origin[0]}: search.modes: disaggregated alone, expected a mode with one pool too")
        return self.changed({"search.modes": modes}) if len(modes) < len(self.modes) else self

    @property
    def notes_on_means(self) -> tuple[str, ...]:
        """The note of a question that compares means, where limits are of a share of the requests."""
        if self.percentile is None:
            return ()
        share = f"{self.percentile:.0%}"
        return (
            f"limits hold for means at a full batch here; `servesat solve` holds them for {share} of the requests, so "
            "its best plan may be another, and cheaper",
        )

    @property
    def notes_on_times(self) -> tuple[str, ...]:
        """The note of a question that shows mean times of plans verified by replay."""
        if self.percentile is None:
            return ()
        return ("times are means at a full batch; `servesat solve` shows the percentiles of the replayed requests",)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what has no effect: chips without a price or a peak in the dtypes, prices of unknown chips."""
        chips, search = self.chips, self.search
        running = [one for one in self.engine if any(one.support_of(chip.id) is not None for chip in chips)]
        return (
            *unusable_chips(
                chips, self.compute, self.chips_without_host, disaggregated=Mode.DISAGGREGATED in self.modes
            ),
            *self._market.unpriced(search.chips or ()),
            *unknown_priced_chips(self.price_book, chips),
            *stale_prices(self.price_book),
            *unused_purchases(
                self.offers,
                owned=bool(self.owned) and "owned" not in self.purchase,
                spot=self.spot_capacity < 1 and all(offer.purchase != "spot" for offer in self.offers),
                whole=self.buy == "instances" and self.calibration is None,  # where it is stated, not by default
            ),
            *prefixes_of_states(self.workload, self.model, calibrated=self.calibration is not None),
            *lengths_beside_a_trace(self.workload),
            *short_context(self.workload),
            *too_long_requests(self.workload, self.model),
            *unused_drafts(
                None if self.speculative is None else self.speculative.draft,
                staged=search.pp is not None and 1 not in search.pp,
                pooled=self.modes == (Mode.DISAGGREGATED,),
            ),
            *presumed_step_factor(self.lora if self.calibration is not None else None),
            *left_out_beside_adapters(
                self.lora,
                running,
                self.model,
                drafts=self.speculative is None and self.calibration is not None and bool(drafts_of(self.model.id)),
            ),
            *left_out_beside_host_cache(self.workload, running),
            *uncounted_slices(
                self.expressions,
                pools_without_demand=Mode.DISAGGREGATED in self.modes and self.workload.requests_per_s is None,
            ),
            *throughput_of_one_slice(
                self.slo.min_tokens_per_s,
                self.workload.output_tokens,
                pools_alone=self.modes == (Mode.DISAGGREGATED,),
            ),
            *pauses_by_step(self.slo.stall_ms, self.percentile),
            *(
                quality_notes(self.model, self.weights, self.kv_cache, self.compute)
                if search.max_quality_loss is not None
                else ()
            ),
        )


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

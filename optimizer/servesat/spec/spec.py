"""What a user writes: the model, the workload, the limits and the search, validated and resolved."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.load import chip_ids, load_chip, load_model, load_price_book
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.price_book import Price, PriceBook, Purchase
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.validation import (
    Strict,
    Usd,
    nearest,
    read_yaml,
    validate,
)
from servesat.cost_model.quantisation_loss import quality_notes
from servesat.spec.overrides import merged, split_key, with_value
from servesat.spec.references import INLINE, origin_of, resolved, resolved_at
from servesat.spec.search_space import Search, chips_at
from servesat.spec.workload import Slo, Workload

DEFAULT_PRICE_BOOK = "list-2026-11"


class Offer(NamedTuple):
    """A chip and what it costs under the spec's prices."""

    chip: Chip
    usd_per_chip_hour: float
    price: Price | None = None  # where it comes from a price book


def _resolve_model(value: Any, info: ValidationInfo) -> Any:
    return resolved(value, info, ModelSpec, load_model, "model")


def _resolve_price_book(value: Any, info: ValidationInfo) -> Any:
    return resolved(value, info, PriceBook, load_price_book, "price_book")


def _written_out(model: Any, where: str, folder: Path) -> Any:
    """A model as the mapping of its fields, to change one of them. Raises SpecError."""
    if isinstance(model, str):
        model = resolved_at(model, (where, folder), ModelSpec, load_model, "model")
    return model.model_dump() if isinstance(model, ModelSpec) else model


NEAR_LOSSLESS = ("bf16", "int8")
"""Dtypes of weights that the search takes, beside the model's own, unless the spec says."""

WHOLE_REQUEST = (Mode.INTERLEAVED, Mode.CHUNKED, Mode.DISAGGREGATED)
"""The modes that serve prompts, too: the default where the workload has them."""

Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]


class Spec(Strict):
    """One deployment question. `Spec.load` reads it from a file, a mapping, or passes one through."""

    model: Annotated[ModelSpec, BeforeValidator(_resolve_model)]
    workload: Workload
    slo: Slo = Slo()
    search: Search = Search()
    cost_model: Literal["ideal"] = "ideal"
    ici: Literal["forbid", "pay"] = "forbid"
    wraparound: Literal["assumed", "exact"] = "assumed"
    int4_group: Annotated[int, Field(strict=True, ge=8, le=65536)] | None = None
    headroom: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.0
    prefill_mfu: Share = 1.0
    utilisation: Share = 1.0
    price_book: Annotated[PriceBook, BeforeValidator(_resolve_price_book)] = Field(
        default=DEFAULT_PRICE_BOOK, validate_default=True
    )
    region: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    purchase: Purchase = "on_demand"
    price: dict[str, Usd] = {}
    chip: dict[str, dict[str, Any]] = Field(default={}, description="Fields of chips, in place of their own.")
    _origin: tuple[str, Path] = PrivateAttr(default=(INLINE, Path()))

    @classmethod
    def load(
        cls,
        source: "Spec | Mapping[str, Any] | str | Path",
        overrides: Mapping[str, Any] | None = None,
        *,
        folder: Path = Path(),
    ) -> "Spec":
        """Read a spec from a YAML file or a mapping, with dotted `overrides` such as `slo.tpot_ms`.

        Paths inside a file are relative to the file, in a mapping to `folder`. Raises SpecError, one line per fault.
        """
        if isinstance(source, Spec):
            if overrides:
                raise SpecError("overrides apply to a mapping or a file, not to a Spec that is already resolved")
            return source
        if isinstance(source, Mapping):
            data: object = source
            where = INLINE
        else:
            path = Path(source)
            data = read_yaml(path, SpecError)
            where, folder = str(path), path.parent
        if not isinstance(data, Mapping):
            raise SpecError(f"{where}: expected a mapping with the keys {', '.join(cls.model_fields)}")
        for key, value in (overrides or {}).items():
            if key.startswith("model."):
                data = {**data, "model": _written_out(data.get("model"), where, folder)}
            data = with_value(data, split_key(key), value, key)
        return validate(cls, data, where=where, error=SpecError, context={"where": where, "folder": folder})

    def changed(self, changes: Mapping[str, Any]) -> "Spec":
        """Copy the spec with other values at dotted keys, such as `slo.tpot_ms`, validated again. Raises SpecError.

        `model.FIELD` and `chip.ID.FIELD` change a field of the model, or of a chip. A chip that is listed in
        `search.chips` may be named by the id it has in this spec.
        """
        where, folder = self._origin
        parts = {key: getattr(self, key) for key in type(self).model_fields}
        data: dict[str, Any] = {
            key: dict(part) if isinstance(part, Workload | Slo | Search) else part for key, part in parts.items()
        }
        for key, value in sorted(changes.items(), key=lambda change: len(split_key(change[0]))):
            if key.startswith("model."):
                data = {**data, "model": _written_out(data["model"], where, folder)}
            data = with_value(data, split_key(key), self._own_chips(value) if key == "search.chips" else value, key)
        if "search.chips" in changes:  # what is said of a chip that is no longer searched has lost its chip
            chips = chips_at(data["search"]["chips"], where, folder)
            left = {*chip_ids(), *(chip.id for chip in chips or ())}
            kept = {shelf: {chip: said for chip, said in data[shelf].items() if chip in left} for shelf in _OF_CHIPS}
            quota = {chip: most for chip, most in data["search"]["quota"].items() if chip in left}
            data = {**data, **kept, "search": {**data["search"], "chips": chips, "quota": quota}}
        return validate(type(self), data, where=where, error=SpecError, context={"where": where, "folder": folder})

    def _own_chips(self, named: Any) -> Any:
        """A list of chips, with those that only this spec knows in place of their ids."""
        own = {chip.id: chip for chip in self.search.chips or ()}
        if not isinstance(named, list | tuple):
            return named
        return [own.get(chip, chip) if isinstance(chip, str) else chip for chip in named]

    def notes_on(self, keys: Iterable[str]) -> tuple[str, ...]:
        """What a change of these keys leaves as it was, though a reader might expect otherwise."""
        shape = {f"model.{name}" for name in ModelSpec.model_fields} - {f"model.{name}" for name in _NO_SHAPE}
        nominal = self.model.nominal_parameters
        if nominal is None or "model.nominal_parameters" in keys or not shape.intersection(keys):
            return ()
        return (
            f"model.nominal_parameters stays {nominal:g} though the shape changes; "
            "set model.nominal_parameters=null to count the parameters from the shape",
        )

    @model_validator(mode="after")
    def _remember_origin(self, info: ValidationInfo) -> Self:
        self._origin = origin_of(info)
        return self

    @model_validator(mode="after")
    def _search_is_possible(self) -> Self:
        if self.region is not None and self.region not in self.price_book.regions:
            hint = nearest(self.region, self.price_book.regions)
            raise ValueError(f"region = {self.region!r}: no price in {self.price_book.id} names it; {hint}")
        offers = self.offers
        known = [offer.chip.id for offer in offers]
        for shelf in _OF_CHIPS:
            for chip_id in getattr(self, shelf):
                if chip_id not in known and chip_id not in chip_ids():
                    raise ValueError(f"{shelf}.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
        for chip_id in self.search.topologies:
            if chip_id not in known:
                raise ValueError(f"search.topologies.{chip_id}: is not among the chips searched: {', '.join(known)}")
        for chip_id in self.search.quota:
            if chip_id not in known and chip_id not in chip_ids():
                raise ValueError(f"search.quota.{chip_id}: no such chip; {nearest(chip_id, [*known, *chip_ids()])}")
        for chip in (offer.chip for offer in offers):
            self._check_topologies(chip)
        self._check_modes()
        if not any(dtype in offer.chip.flop_per_s.by_dtype() for offer in offers for dtype in self.search.compute):
            able = "; ".join(f"{offer.chip.id}: {', '.join(offer.chip.flop_per_s.by_dtype())}" for offer in offers)
            raise ValueError(
                f"search.compute = {list(self.search.compute)}: no chip searched has a peak for these dtypes ({able})"
            )
        return self

    def _check_modes(self) -> None:
        whole = [mode for mode in self.modes if mode is not Mode.DECODE_ONLY]
        if whole and self.workload.prompt_tokens is None:
            raise ValueError(f"search.modes: {whole[0]} needs workload.prompt_tokens and workload.output_tokens")
        if Mode.DECODE_ONLY in self.modes and len(self.modes) > 1:
            raise ValueError("search.modes: decode_only leaves the prompts out, so it does not compare with the others")
        if self.modes == (Mode.DISAGGREGATED,) and not any(offer.chip.network_bytes_per_s for offer in self.offers):
            names = ", ".join(offer.chip.id for offer in self.offers)
            raise ValueError(
                f"search.modes: disaggregated moves KV caches over the network, and no network_bytes_per_s is known of "
                f"{names}; give it, as in chip.{self.offers[0].chip.id}.network_bytes_per_s"
            )
        for key in ("ttft_ms", "e2e_ms"):
            if not whole and getattr(self.slo, key) is not None:
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

    @property
    def weights(self) -> tuple[str, ...]:
        """The dtypes of weights searched: those named, else bf16, int8, and the one that the model is published in."""
        if self.search.weights is not None:
            return self.search.weights
        own = () if self.model.native is None else (self.model.native.dtype,)
        return tuple(dict.fromkeys((*own, *NEAR_LOSSLESS)))

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The serving modes searched: those named, else all that serve whole requests, else decoding alone."""
        if self.search.modes is not None:
            return self.search.modes
        return (Mode.DECODE_ONLY,) if self.workload.prompt_tokens is None else WHOLE_REQUEST

    def in_one_pool(self) -> "Spec":
        """The spec without disaggregated plans, for questions that do not compare them. Raises SpecError."""
        left = [mode for mode in self.modes if mode is not Mode.DISAGGREGATED]
        if not left:
            raise SpecError(f"{self._origin[0]}: search.modes: disaggregated plans have no frontier and no robustness")
        return self.changed({"search.modes": left}) if len(left) < len(self.modes) else self

    def _check_topologies(self, chip: Chip) -> None:
        for topology in self.search.topologies.get(chip.id, ()):
            if topology not in chip.topologies:
                turned = "x".join(reversed(topology.split("x")))
                hint = f"did you mean '{turned}'? " if turned in chip.topologies else ""
                raise ValueError(
                    f"search.topologies.{chip.id}: {topology!r} is not offered; {hint}"
                    f"offered: {', '.join(chip.topologies)}"
                )

    @cached_property
    def offers(self) -> tuple[Offer, ...]:
        """The chips searched with their prices: those named, else every chip with a price, in the order of their ids.

        A price in the spec goes before the chip's own, and that before the price book's. Raises ValueError when a chip
        named in the search has none.
        """
        listed = self.search.chips
        chips = self.priced_catalogue_chips if listed is None else tuple(map(self._with_own_fields, listed))
        if not chips:
            raise ValueError(f"search.chips: no chip of the catalogue has a price in {self._priced_in}")
        return tuple(map(self._offer_of, chips))

    @property
    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue that has a price in the spec or its price book, in the order of their ids."""
        book = self.price_book
        in_book = {chip for chip in book.chips if book.cheapest(chip, self.purchase, self.region) is not None}
        priced = {*self.price, *in_book}
        return tuple(self._with_own_fields(load_chip(chip_id)) for chip_id in chip_ids() if chip_id in priced)

    def _with_own_fields(self, chip: Chip) -> Chip:
        """A chip with the fields that the spec gives it. Raises SpecError."""
        if chip.id not in self.chip:
            return chip
        where, prefix = self._origin[0], f"chip.{chip.id}"
        fields = merged(chip.model_dump(), self.chip[chip.id], f"{where}: {prefix}")
        return validate(Chip, fields, where=where, error=SpecError, prefix=prefix)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has no effect in the spec: chips without a peak in any dtype searched, prices of unknown chips."""
        dtypes = ", ".join(self.search.compute)
        searched = [offer.chip for offer in self.offers]
        idle = [chip.id for chip in searched if not set(self.search.compute) & set(chip.flop_per_s.by_dtype())]
        unlinked = [chip.id for chip in searched if not chip.network_bytes_per_s and Mode.DISAGGREGATED in self.modes]
        known = {chip.id for chip in searched} | set(chip_ids())
        unknown = [chip_id for chip_id in self.price_book.chips if chip_id not in known]
        search = self.search
        of_quality = (
            []
            if search.max_quality_loss is None
            else quality_notes(self.model, self.weights, search.kv_cache, search.compute)
        )
        return (
            *_of_each(idle, f"no peak in {dtypes}, so no plan"),
            *_of_each(unlinked, "no network_bytes_per_s, so no disaggregated plan"),
            *(
                f"{self.price_book.id} prices {chip_id}, no known chip; {nearest(chip_id, known)}"
                for chip_id in unknown
            ),
            *of_quality,
        )

    def _offer_of(self, chip: Chip) -> Offer:
        own = self.price.get(chip.id, chip.usd_per_chip_hour)
        if own is not None:
            return Offer(chip, own)
        price = self.price_book.cheapest(chip.id, self.purchase, self.region)
        if price is None:
            raise ValueError(f"{self._no_price_of(chip.id)}; add `price: {{{chip.id}: USD_PER_CHIP_HOUR}}`")
        return Offer(chip, price.usd_per_chip_hour, price)

    @property
    def _priced_in(self) -> str:
        """The price book, and what is looked for in it, in words."""
        there = "" if self.region is None else f" in {self.region}"
        return (
            f"{self.price_book.id}"
            if not there and self.purchase == "on_demand"
            else (f"{self.price_book.id} as {self.purchase}{there}")
        )

    def _no_price_of(self, chip: str) -> str:
        """That a chip has no price as it is asked for, and which it has."""
        has = sorted({f"{one.purchase} in {one.region or 'any region'}" for one in self.price_book.chips.get(chip, ())})
        known = f" (it has {', '.join(has)})" if has else ""
        return f"search.chips: {chip} has no price in {self._priced_in}{known}"

    def topologies_of(self, chip: Chip) -> tuple[str, ...]:
        """The slices of a chip that may be chosen, fewest chips first."""
        return tuple(sorted(self.search.topologies.get(chip.id, chip.topologies), key=lambda t: (chips_in(t), t)))


def _of_each(chips: list[str], lacks: str) -> Iterator[str]:
    """One note on all chips that lack something."""
    if len(chips) == 1:
        yield f"{chips[0]} has {lacks} on it was searched"
    elif chips:
        yield f"{', '.join(chips[:-1])} and {chips[-1]} have {lacks} on them was searched"


_NO_SHAPE = ("id", "name", "checked", "sources", "nominal_parameters", "window_tokens", "window_layers")
"""Fields of a model that its number of parameters does not depend on."""

_OF_CHIPS = ("price", "chip")
"""Keys of a spec that say something of chips, by id, whether or not they are searched."""

"""What a spec searches and requires: as it states, or by default."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from typing import Any, get_args

from pydantic import BaseModel

from servesat.catalogue.calibration import Calibration, Errors
from servesat.catalogue.chip import Chip, chips_in, offered_topology
from servesat.catalogue.drafts import DraftMethod
from servesat.catalogue.engine import Engine
from servesat.catalogue.load import chip_ids, engine_ids, load_calibration, load_model, model_ids
from servesat.catalogue.price_book import Purchase
from servesat.core.plan import Bill, KvLayout, Mode, Plan
from servesat.core.validation import Dtype, nearest, shorten
from servesat.cost_model.speculation import Drafting
from servesat.spec.engines import computes_by_default, kv_caches_by_default, kv_layouts_by_default, weights_by_default
from servesat.spec.expression_parser import parse
from servesat.spec.expressions import Expression, ExpressionError
from servesat.spec.keys import CALIBRATED, IDEAL, Keys
from servesat.spec.lora import STEP_FACTOR
from servesat.spec.market import Market
from servesat.spec.offers import Offer
from servesat.spec.speculation import NO_DRAFTING, DraftChoice, Speculation, draft_choices, drafting_of
from servesat.spec.workload import MAX_TOKENS

PERCENTILE_IN_PRODUCTION = 0.95
"""Of a spec with a demand, unless its cost model is ideal: the share of the requests that are within limits."""

NEAR_LOSSLESS = ("bf16", "int8")
"""Weights dtypes searched by default, with the dtype in which the model is published."""

WHOLE_REQUEST = (Mode.INTERLEAVED, Mode.CHUNKED, Mode.DISAGGREGATED)
"""Modes that also serve prompts: the default for a workload with prompts."""


class Searched(Keys):
    """A spec with what follows from its keys: chips and their offers, dtypes, modes, engines, drafts and margins."""

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
    def exact_wraparound(self) -> bool:
        """Whether a torus axis closes to a ring only where the slice's does."""
        return self.wraparound == "exact" or (self.wraparound is None and self.calibration is not None)

    @property
    def pays_ici(self) -> bool:
        """Whether the ideal cost model counts collectives; the calibrated one always does, as it was fitted."""
        return self.calibration is None and self.ici == "pay"

    @property
    def step_factor(self) -> float:
        """How many times as long steps and prompts take for LoRA adapters, under the calibrated cost model."""
        return 1.0 if self.lora is None else self.lora.step_factor or STEP_FACTOR

    @property
    def mfu_of_prefill(self) -> float:
        """The share of the peak that prefill reaches under the ideal cost model."""
        return self.prefill_mfu or 1.0

    def number_at(self, key: str) -> Fraction:
        """The number at a dotted key, exactly. Raises ValueError where there is none."""
        value: Any = self
        for name in key.split("."):
            fields = type(value).model_fields if isinstance(value, BaseModel) else {}
            if name not in fields:
                raise ValueError(f"{key}: no such key of the spec; {nearest(name, fields)}")
            value = getattr(value, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            is_none = "is not given" if value is None else "is not a number"
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

        Under engines pools are searched for a demand, or where they are listed or a constraint names them: without a
        demand, any number is as good. None is planned with a cache in the memory of hosts.
        """
        if self.search.modes is not None:
            return self.search.modes
        if self.workload.prompt_tokens is None:
            return (Mode.DECODE_ONLY,)
        named = any(
            name.id == "mode" or name.id.startswith("prefill.") for one in self.expressions for name in one.names
        )
        if (not self.engine or self.workload.requests_per_s or named) and self.workload.host_cache is None:
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
        """What may draft tokens ahead of the model: as stated, else by the calibrated cost model what was published.

        Beside LoRA adapters none by default, as drafts were trained for the bare model.
        """
        if self.speculative is None and (self.calibration is None or not self.engine or self.lora is not None):
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

    def counted_share(self, purchase: str | None) -> float:
        """The share of a slice's capacity that is counted on, as it is bought: on spot some of it is spare."""
        return self.spot_capacity if purchase == "spot" else 1.0

    @cached_property
    def offers(self) -> tuple[Offer, ...]:
        """What can be rented of the chips listed, else of every chip with a price, sorted by id; the cheapest first.

        A price comes from the spec, else from the chip, else from the price book. Raises ValueError where none has one.
        With a cache in the memory of hosts, chips that are not known to load from it are left out.
        """
        offers = self._market.offers(self.search.chips)
        if self.workload.host_cache is None:
            return offers
        loading = tuple(offer for offer in offers if offer.chip.host_bytes_per_s is not None)
        if not loading:
            chip = offers[0].chip.id
            raise ValueError(
                f"workload.host_cache: no host_bytes_per_s is known of {chip}; give it, as in "
                f"chip.{chip}.host_bytes_per_s"
            )
        return loading

    @property
    def chips_without_host(self) -> tuple[Chip, ...]:
        """The chips that have an offer, and are left out as they are not known to load from a host's memory."""
        if self.workload.host_cache is None:
            return ()
        found = {offer.chip.id: offer.chip for offer in self._market.offers(self.search.chips)}
        return tuple(chip for chip in found.values() if chip.host_bytes_per_s is None)

    @cached_property
    def _offers_by_chip(self) -> dict[str, list[Offer]]:
        return {name: list(offers) for name, offers in groupby(self.offers, lambda offer: offer.chip.id)}

    @cached_property
    def chips(self) -> tuple[Chip, ...]:
        """The chips searched: those that have an offer."""
        return tuple(offers[0].chip for offers in self._offers_by_chip.values())

    @property
    def has_network(self) -> bool:
        """Whether some chip is known to have a network, over which one pool sends KV caches to another."""
        return any(chip.network_bytes_per_s for chip in self.chips)

    def offers_of(self, chip: str) -> Sequence[Offer]:
        """The offers of a chip, the cheapest first; none of a chip that is not searched."""
        return self._offers_by_chip.get(chip, ())

    @property
    def longest_request_tokens(self) -> int:
        """The most tokens of a request, as servers are started for: within the context of the model."""
        return min(self.workload.longest_request_tokens, self.model.max_context_tokens or MAX_TOKENS)

    def offer_billed(self, bill: Bill) -> Offer:
        """The offer that a bill of one of its plans is for."""
        place = tuple(part or "" for part in (bill.cloud, bill.region, bill.purchase, bill.instance, bill.term))
        return next(offer for offer in self.offers_of(bill.chip) if offer.place == place)

    def assumed_network(self, plan: Plan) -> str | None:
        """That the pools of a plan are connected by a network that no price states; None where that is not so."""
        bills = plan.bills if plan.prefill is not None else ()
        instances = dict.fromkeys(str(bill.instance) for bill in bills if self.offer_billed(bill).assumes_network)
        if not instances:
            return None
        return f"not stated for {' and '.join(instances)}: KV transfers are planned at the full speed of the chips"

    @property
    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue with a price in the spec or its price book, sorted by id."""
        return self._market.priced_catalogue_chips()

    @property
    def has_varied_prices(self) -> bool:
        """Whether `Spec.changed` varied a price of the book, paid where the book sells the chip."""
        return bool(self._varied)

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

    def topologies_of(self, chip: Chip) -> tuple[str, ...]:
        """The slices of a chip that may be chosen, by number of chips."""
        named = [offered_topology(chip, topology) for topology in self.search.topologies.get(chip.id, ())]
        searched = [topology for topology in named if topology is not None] or chip.topologies
        return tuple(sorted(searched, key=lambda topology: (chips_in(topology), topology)))

"""Notes on parts of a spec, or of a change to it, that have no effect or are assumed."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from servesat.catalogue.chip import Chip
from servesat.catalogue.engine import Engine
from servesat.catalogue.load import chip_ids
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.price_book import PriceBook
from servesat.core.validation import nearest
from servesat.spec.expressions import Expression, counts_slices
from servesat.spec.lora import STEP_FACTOR, Lora
from servesat.spec.offers import Offer
from servesat.spec.workload import Workload

MAX_PRICE_AGE_DAYS = 90
"""Days from which on a price book is said to be old."""

NOT_SHAPE = (
    "id", "name", "checked", "sources", "nominal_parameters", "window_tokens", "window_layers", "whole_image_tokens"
)  # fmt: skip
"""Fields of a model that do not affect its number of parameters."""


def unusable_chips(
    chips: Sequence[Chip], compute: Sequence[str], without_host: Sequence[Chip], *, disaggregated: bool
) -> Iterator[str]:
    """Name the chips without a peak in any compute dtype, without a network for pools, or a link to a host's cache."""
    without_peak = [chip.id for chip in chips if not set(compute) & set(chip.flop_per_s.by_dtype())]
    without_network = [chip.id for chip in chips if not chip.network_bytes_per_s and disaggregated]
    yield from _lacking(without_peak, f"no peak in {', '.join(compute)}, so no plan")
    yield from _lacking([chip.id for chip in without_host], "no host_bytes_per_s, so no plan with a host_cache")
    yield from _lacking(without_network, "no network_bytes_per_s, so no disaggregated plan")


def _lacking(chips: Sequence[str], property_and_effect: str) -> Iterator[str]:
    if len(chips) == 1:
        yield f"{chips[0]} has {property_and_effect} on it was searched"
    elif chips:
        yield f"{', '.join(chips[:-1])} and {chips[-1]} have {property_and_effect} on them was searched"


def uncounted_slices(expressions: Sequence[Expression], *, pools_without_demand: bool) -> Iterator[str]:
    """Say which numbers of slices are compared where a constraint counts them and no demand does."""
    if pools_without_demand and counts_slices(expressions):
        yield (
            "constraints count slices that no demand sizes: disaggregated plans are compared where the pools match in "
            "pace, up to 16 slices of the smaller one; workload.requests_per_s sizes them exactly"
        )


def throughput_of_one_slice(
    min_tokens_per_s: float | None, output_tokens: int | None, *, pools_alone: bool
) -> Iterator[str]:
    """Say that a throughput without a demand is that of one slice, and how to ask for any number of slices."""
    if min_tokens_per_s is not None and not pools_alone:
        requests = "" if output_tokens is None else f" = {min_tokens_per_s / output_tokens:.4g}"
        yield (
            "slo.min_tokens_per_s is compared with one slice, or with what fills an instance; for the lowest bill on "
            f"any number of slices give workload.requests_per_s{requests} in its place"
        )


def pauses_by_step(stall_ms: float | None, percentile: float | None) -> Iterator[str]:
    """Say that the limit on pauses is not among those that replays verify."""
    if stall_ms is not None and percentile is not None:
        yield (
            "slo.stall_ms is checked for the pause that one prompt, or one chunk, makes: replays do not count pauses, "
            "and two prompts in a row make a longer one"
        )


def stale_prices(price_book: PriceBook, today: date | None = None) -> Iterator[str]:
    """Say that a price book was last compared with its sources more than MAX_PRICE_AGE_DAYS ago."""
    if price_book.checked is not None:
        age = ((today or date.today()) - price_book.checked).days
        if age > MAX_PRICE_AGE_DAYS:
            yield (
                f"the prices of {price_book.id} were last checked on {price_book.checked}, {age} days ago; "
                "import newer ones, or give `price`"
            )


def unused_purchases(offers: Sequence[Offer], *, owned: bool, spot: bool, whole: bool) -> Iterator[str]:
    """Say what is given for machines that are owned or on spot and not searched, or bought whole where none can be."""
    if spot:
        yield "spot_capacity has no effect: no price searched is on spot"
    if owned:
        yield "owned machines are not searched: purchase lists no `owned`"
    if whole and all(offer.price is None or offer.price.instance_chips is None for offer in offers):
        yield "buy: instances has no effect: no price of these chips is that of an instance; try price_book: all"


def prefixes_of_states(workload: Workload, model: ModelSpec, *, calibrated: bool) -> Iterator[str]:
    """Say that a hit is taken as stated for layers with states, which engines store at few points of a prefix."""
    if workload.prefix_cache_hit and model.has_states and calibrated:
        yield (
            f"prefix_cache_hit = {workload.prefix_cache_hit:g} is taken as measured: engines store the states of "
            f"{model.id} once a block, of over a thousand tokens in vLLM, and recompute the rest of a prefix"
        )


def lengths_beside_a_trace(workload: Workload) -> Iterator[str]:
    """Say that lengths are stated that are not those of the trace, whose requests are replayed."""
    trace = workload.arrivals.recorded
    if trace is None:
        return
    for name, mean in trace.mean_lengths.items():
        stated = getattr(workload, name)
        if stated is not None and stated != mean:
            yield (
                f"workload.{name} = {stated:,} sets the means, bounds and prices, but the requests of {trace.name} "
                f"that are replayed have {mean:,} on average; leave it out to plan for those"
            )


def short_context(workload: Workload) -> Iterator[str]:
    """Say that a request grows longer than the context with which memory and steps are planned."""
    held, longest = workload.context_tokens, workload.longest_context_tokens
    if held is not None and held < longest:
        yield (
            f"workload.context_tokens = {held:,} sets the KV cache of a sequence, but a request grows to {longest:,} "
            "tokens; leave it out to plan memory and steps for those"
        )


def too_long_requests(workload: Workload, model: ModelSpec) -> Iterator[str]:
    """Say that lengths spread beyond the model's context, where a server ends or refuses a request."""
    most, longest = model.max_context_tokens, workload.longest_request_tokens
    if most is not None and workload.arrivals.trace is None and workload.longest_context_tokens <= most < longest:
        yield (
            f"some requests are longer than the {most:,} tokens of {model.id}, and a server refuses them: 1 in 1,000 "
            f"has more than {longest:,}"
        )


def unused_drafts(stated: str | None, *, staged: bool, pooled: bool) -> Iterator[str]:
    """Say that a draft is stated and no plan of the search has one: over stages, or beside a pool for prompts."""
    if stated not in {None, "none"} and (staged or pooled):
        where = "over stages, and search.pp is without 1" if staged else "beside a prefill pool, as in search.modes"
        yield f"speculative.draft = {stated} has no effect: none is planned {where}"


def left_out_beside_adapters(
    lora: Lora | None, engines: Sequence[Engine], model: ModelSpec, *, drafts: bool
) -> Iterator[str]:
    """Say which engines, and whether published drafts, are left out beside adapters."""
    if lora is not None:
        lacking = [engine.name for engine in engines if not engine.serves_adapters(model)]
        if lacking or drafts:
            yield f"not searched beside lora: {', '.join([*lacking, *(['published drafts'] if drafts else [])])}"


def left_out_beside_host_cache(workload: Workload, engines: Sequence[Engine]) -> Iterator[str]:
    """Say what is left out beside a cache in the memory of hosts, and that no price tells how much of that there is."""
    if workload.host_cache is not None:
        lacking = [engine.name for engine in engines if not engine.host_cache]
        yield f"not searched beside workload.host_cache: {', '.join([*lacking, 'pools for prefill'])}"
        yield "whether machines have the memory of workload.host_cache is not checked, as prices do not tell how much"


def presumed_step_factor(lora: Lora | None) -> Iterator[str]:
    """Say on whose measurement adapters slow steps down, unless the spec states by how much."""
    if lora is not None and lora.step_factor is None:
        yield (
            f"lora.step_factor = {STEP_FACTOR:g} is assumed, from LLaMA 3.1 8B on a v6e, whose throughput falls by 8 "
            "to 24 % with adapters; measure your own, and state it"
        )


def unknown_priced_chips(price_book: PriceBook, chips: Sequence[Chip]) -> Iterator[str]:
    """Name the chips with a price that are neither searched nor in the catalogue."""
    known = {*(chip.id for chip in chips), *chip_ids()}
    for chip_id in price_book.prices:
        if chip_id not in known:
            yield f"{price_book.id} prices {chip_id}, no known chip; {nearest(chip_id, known)}"


def stale_host_hit(workload: Workload, changed_keys: Iterable[str]) -> Iterator[str]:
    """Note that the share of a prompt that is found in a host's cache stays as it is when the size of that changes."""
    keys = set(changed_keys)
    if "workload.host_cache.tokens" in keys and "workload.host_cache.hit" not in keys:
        yield (
            f"workload.host_cache.hit stays {workload.host_hit:g} though its tokens change; a spec of its own for each "
            "size takes the share from a trace"
        )


def stale_means(workload: Workload, changed_keys: Iterable[str]) -> Iterator[str]:
    """Note that the means of a workload stay those of its own trace when scenarios have other traces."""
    keys = set(changed_keys)
    if workload.arrivals.trace is not None and keys & {"workload.arrivals", "workload.arrivals.trace"}:
        names = ("prompt_tokens", "output_tokens", "requests_per_s")
        kept = [f"{name} = {getattr(workload, name):g}" for name in names if f"workload.{name}" not in keys]
        if kept:
            yield f"{', '.join(kept)} of the workload stay as they are though the trace changes: vary them too"


def stale_nominal_parameters(model: ModelSpec, changed_keys: Iterable[str]) -> Iterator[str]:
    """Note that the nominal number of parameters stays as it is when the shape of the model changes."""
    shape = {f"model.{name}" for name in ModelSpec.model_fields if name not in NOT_SHAPE}
    nominal, keys = model.nominal_parameters, set(changed_keys)
    if nominal is not None and "model.nominal_parameters" not in keys and shape & keys:
        yield (
            f"model.nominal_parameters stays {nominal:g} though the shape changes; "
            "set model.nominal_parameters=null to count the parameters from the shape"
        )

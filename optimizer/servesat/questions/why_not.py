"""Why not: the best plan under decisions that a user fixes, compared with the best plan overall."""

from dataclasses import dataclass
from typing import Any

from servesat.catalogue.chip import offered_topology
from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.break_even import break_even_price
from servesat.spec.engines import NONE
from servesat.spec.spec import Spec
from servesat.spec.speculation import NO_DRAFTING


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions that a user fixes; None leaves a decision open."""

    chip: str | None = None
    topology: str | None = None
    weights: str | None = None
    kv_cache: str | None = None
    compute: str | None = None
    batch: int | None = None
    engine: str | None = None
    pp: int | None = None
    draft: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best plan overall, and the best under the decisions: a plan, or the conflict that excludes them.

    `break_even_usd_per_chip_hour` is the price of the alternative's chip below which the alternative costs less than
    every other plan. None when no price is low enough, because another plan on that chip stays cheaper,
    or when the alternative has no plan. Where both plans are `verified` by replays, it is the price at which this
    alternative costs as much as this best plan; None where that takes the chip too.
    """

    spec: Spec
    best: Result
    alternative: Result
    break_even_usd_per_chip_hour: float | None
    verified: bool = False


def why_not(spec: Spec, decisions: Decisions, settings: Settings | None = None) -> Comparison:
    """Compare the best plan under the decisions with the best plan overall, both as `solve` finds them.

    With a batch that is fixed, limits on a share of the requests are applied to means. Raises SpecError for decisions
    that cannot be made.
    """
    if decisions.batch is not None:
        spec = spec.in_means()
    narrowed = _narrowed(spec, decisions)
    best = solve(spec, settings)
    alternative = solve(narrowed, settings, batch=decisions.batch)
    if spec.percentile is not None:
        price = _price_of_as_much(best.plan, alternative.plan)
        return Comparison(
            spec=narrowed, best=best, alternative=alternative, break_even_usd_per_chip_hour=price, verified=True
        )
    price = None
    if best.plan is not None and alternative.plan is not None and alternative.plan != best.plan:
        price = break_even_price(spec, narrowed, decisions.batch, alternative.plan, settings)
        if price is not None:  # `price.CHIP` is that of the cheapest offer; all others are scaled with it
            cheapest_usd = narrowed.offers_of(alternative.plan.chip)[0].usd_per_chip_hour
            price *= alternative.plan.usd_per_chip_hour / cheapest_usd
    return Comparison(spec=narrowed, best=best, alternative=alternative, break_even_usd_per_chip_hour=price)


def _price_of_as_much(best: Plan | None, alternative: Plan | None) -> float | None:
    """The price of the alternative's chip at which it costs as much as a best plan without that chip."""
    if best is None or alternative is None or {bill.chip for bill in alternative.bills} != {alternative.chip}:
        return None
    if alternative.chip in {bill.chip for bill in best.bills}:
        return None
    as_much = best.usd_per_million_output_tokens / alternative.usd_per_million_output_tokens
    return alternative.usd_per_chip_hour * as_much


def _narrowed(spec: Spec, decisions: Decisions) -> Spec:
    """The spec with its search replaced by the decisions, which may lie outside that search."""
    keys: dict[str, Any] = {
        f"search.{name}": [value]
        for name in ("weights", "kv_cache", "compute", "pp")
        if (value := getattr(decisions, name)) is not None
    }
    if decisions.chip is not None:
        searched = {chip.id: chip for chip in spec.chips}
        keys["search.chips"] = [searched.get(decisions.chip, decisions.chip)]
        topologies = spec.search.topologies.get(decisions.chip)
        keys["search.topologies"] = {} if topologies is None else {decisions.chip: topologies}
    if decisions.topology is not None:
        chips = (spec.changed(keys) if decisions.chip is not None else spec).chips
        with_topology = [chip for chip in chips if offered_topology(chip, decisions.topology)]
        if not with_topology:
            raise SpecError(f"--topology {decisions.topology}: not offered by {', '.join(chip.id for chip in chips)}")
        keys["search.chips"] = with_topology
        keys["search.topologies"] = {chip.id: [decisions.topology] for chip in with_topology}
    if decisions.engine is not None:
        spec = spec.without_engines() if decisions.engine == NONE else spec.changed({"engine": decisions.engine})
    if decisions.draft == NO_DRAFTING:
        keys["speculative"] = {"draft": NO_DRAFTING}
    elif decisions.draft is not None:
        stated = {} if spec.speculative is None else spec.speculative.model_dump(exclude_unset=True)
        keys["speculative"] = stated | {"draft": decisions.draft}
        drafts = spec.changed({"speculative": keys["speculative"]}).drafts
        keys["constraints"] = [*spec.constraints, f"draft == {drafts[0].draft}"]
    if decisions.batch is not None:
        keys["search.max_batch"] = max(decisions.batch, spec.search.min_batch or 1)
    return spec.changed(keys)

"""What a plan pays, and what else would cost, as sentences."""

from collections.abc import Iterator

from servesat.core.plan import Bill, Plan
from servesat.core.quantities import change_of, dollars, number
from servesat.core.result import ApiComparison, EngineCost
from servesat.report.words import chips, decode_slices
from servesat.spec.engines import NONE


def price(bill: Bill) -> str:
    """Where a price comes from, and the instances, or the part of one, that it pays for."""
    where = " ".join(part for part in (bill.cloud, bill.region) if part) or "any cloud"
    bought = bill.purchase.replace("_", " ") if bill.purchase else ""
    text = f"{bill.chip}, {bought}" if bought == "owned" else f"{bill.chip}, {where}, {bought}"
    text += f" ({bill.term})" if bill.term else ""
    if bill.instance is not None:
        text += f", {bill.instance}"
    if isinstance(bill.instances, int):
        used = f"{bill.chips_used:,} of {chips(bill.chips)} used"
        each = f"{dollars(bill.usd_per_instance_hour or 0.0)} an hour each"
        text = f"{bill.instances:,} × {bill.instance}, {text.removesuffix(f', {bill.instance}')}: {each}, {used}"
    elif bill.instances is not None and bill.instances != int(bill.instances):
        full, part = divmod(bill.chips, bill.instance_chips or 1)
        instances = f"{full} and " if full else ""
        text += f": {instances}{part} of its {bill.instance_chips} chips; a whole one is billed at "
        text += f"{dollars(bill.usd_per_instance_hour or 0.0)} an hour, unless something else uses the rest"
    text += f", price of {bill.as_of}" if bill.as_of else ""
    return text + (f" ({bill.note})" if bill.note else "")


def beside_api(api: ApiComparison) -> str:
    """What the cheapest API charges for the same load, and from which load on serving yourself costs less."""
    cheapest, count = api.offers[0], len(api.offers)
    of = f"the cheapest of {count} providers" if count > 1 else "the only provider listed"
    text = f"{dollars(cheapest.usd_per_request)} a request at {cheapest.provider}, {of} on {api.checked}"
    text += f": {dollars(api.usd_per_hour)} an hour for this load"
    if api.pays_at_no_load:
        return text + "; no plan costs less at any load"
    load = api.break_even_requests_per_s
    return text if load is None else text + f"; a plan first pays at {number(load)} requests/s"


def on_spot(plan: Plan, without_spot: Plan | None, spot_capacity: float) -> str:
    """What a plan on spot rests on, and what the best one without spot costs."""
    bills = [bill for bill in plan.bills if bill.purchase == "spot"]
    facts = [fact for bill in bills for fact in _facts_of_spot(bill)]
    text = "; ".join(dict.fromkeys(facts)) + "; " if facts else ""
    text += "prices are one snapshot, and the machines may be withdrawn at short notice; "
    if spot_capacity < 1:
        text += f"{spot_capacity:.0%} of their capacity is counted on; "
    else:
        text += "none of their capacity is spare (spot_capacity keeps some); "
    if without_spot is None:
        return text + "without spot there is no plan within these limits"
    more = without_spot.usd_per_million_output_tokens / plan.usd_per_million_output_tokens - 1
    million = dollars(without_spot.usd_per_million_output_tokens)
    return text + f"without spot the best plan costs {million} per million output tokens, {change_of(more)}"


def _facts_of_spot(bill: Bill) -> Iterator[str]:
    """What is known of a price on spot: how far zones differ, and how often instances are withdrawn."""
    if bill.lowest_usd_per_instance_hour is not None and bill.usd_per_instance_hour is not None:
        zones = f"{dollars(bill.lowest_usd_per_instance_hour)} to {dollars(bill.usd_per_instance_hour)}"
        yield f"zones asked {zones} an hour for {bill.instance}, the highest is billed"
    if bill.interrupted_per_month is not None:
        low, high = bill.interrupted_per_month
        share = f"{low:.0%} to {high:.0%}" if high < 1 else f"more than {low:.0%}"
        as_of = f" (as of {bill.interrupted_as_of})" if bill.interrupted_as_of else ""
        yield f"{share} of {bill.instance} in {bill.region} were withdrawn in a month{as_of}"


def engine_cost(cost: EngineCost, plan: Plan) -> str:
    """What another engine would cost: `SGLang 0.5.23: $0.51 per million output tokens, 3.2% more: h100-sxm 4x1, …`."""
    name = "no engine, the machine alone" if cost.engine == NONE else cost.engine
    if cost.plan is None:
        return f"{name}: no plan meets the limits"
    dollars_of, other = cost.plan.usd_per_million_output_tokens, cost.plan
    share = dollars_of / plan.usd_per_million_output_tokens - 1
    more = "the same" if abs(share) < 5e-5 else f"{share:.1%} more" if share > 0 else f"{-share:.1%} less"
    dtypes = f"weights {other.weights}, KV cache {other.kv_cache}"
    where = f"{decode_slices(other)}, {dtypes}, batch {other.batch}"
    return f"{name}: {dollars(dollars_of)} per million output tokens, {more}: {where}"

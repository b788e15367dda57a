"""What plans are bought as, by enumeration: every offer of every cloud, and every way to fill instances.

Written from docs/cost-model.md, "What a plan is bought as". Takes the raw spec, whose price book stands in it, and
imports nothing from servesat.
"""

from functools import cache
from itertools import product
from math import ceil, inf, prod
from typing import Any

from tests.oracles.deployment import settled
from tests.oracles.machine import MET
from tests.oracles.requests import World, best

MAX_SMALLER_POOL_SLICES = {"share": 4, "instances": 16}
MOST = 40


def solve(spec: dict[str, Any]):
    """The best plan, or None; and the minimal conflicts, empty when there is one."""
    return settled(enumerate_plans(spec), best)


def enumerate_plans(spec: dict[str, Any]):
    """Yield (plan, violated requirements) for every mode, layout, batch, offer and number of slices."""
    world = Sold(spec)
    for mode in spec["search"].get("modes", ["interleaved", "chunked", "disaggregated"]):
        if mode == "disaggregated":
            yield from world.in_two_pools()
        else:
            chunks = spec["search"]["chunk_tokens"] if mode == "chunked" else [None]
            for chunk in chunks:
                yield from world.in_one_pool(mode, chunk)


def offers_in(spec: dict[str, Any]):
    """Every offer that the spec allows: a mapping, one a region."""
    book = spec["price_book"]
    for offer in book["offers"]:
        machine = book["instances"].get(offer.get("instance"), {})
        usd = offer.get("usd_per_instance_hour", offer.get("usd_per_chip_hour"))
        for region, price in (usd if isinstance(usd, dict) else {None: usd}).items():
            wanted = (
                offer["purchase"] in spec.get("purchase", ["on_demand"])
                and offer["cloud"] in spec.get("cloud", [offer["cloud"]])
                and (region is None or region in spec.get("region", [region]))
            )
            if wanted:
                yield {
                    "chip": machine.get("chip", offer.get("chip")), "cloud": offer["cloud"], "region": region,
                    "purchase": offer["purchase"], "instance": offer.get("instance"), "size": machine.get("chips"),
                    "link": machine.get("link_chips") or machine.get("chips"), "usd": price,
                    "network": machine.get("network_bytes_per_s"),
                }  # fmt: skip


def holds(offer, lay) -> bool:
    """Whether the chips of a slice, numbered along its axes, stand where the link or a fast network connects them."""
    size, sizes = offer["size"], lay.sizes
    if size is None or lay.n <= size:
        return True
    if lay.n % size:
        return False
    if lay.n <= offer["link"]:
        return True
    for axis, axis_size in enumerate(sizes):
        stride = prod(sizes[:axis])
        crosses = any(
            first // offer["link"] != (first + stride * at) // offer["link"]
            for first in range(lay.n)
            if first // stride % axis_size == 0
            for at in range(axis_size)
        )
        if crosses and (offer["network"] or 0) / size * (1 + MET) < lay.chip["axes"][axis]["bytes_per_s"]:
            return False
    return True


@cache
def packed(size: int, large: int, large_count: int, small: int, small_count: int) -> float:
    """The fewest instances for slices of two sizes, over every filling of the first one."""
    if large_count <= 0 and small_count <= 0:
        return 0
    fewest = inf
    for ones in range(min(large_count, size // large) + 1):
        others = min(small_count, (size - ones * large) // small)
        if ones or others:
            fewest = min(fewest, 1 + packed(size, large, large_count - ones, small, small_count - others))
    return fewest


class Sold(World):
    """A spec's machines at its offers."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.buy = spec.get("buy", "share")
        self.offers = list(offers_in(spec))
        self.any_number = spec.get("any_number", False)

    def offers_of(self, lay):
        return [offer for offer in self.offers if offer["chip"] == lay.chip["name"] and holds(offer, lay)]

    def paid(self, offer, lay, slices):
        """Instances, chips and dollars an hour for slices of one pool."""
        size = offer["size"]
        if size is None:
            return 0, slices * lay.n, slices * lay.n * offer["usd"]
        if self.buy == "share":
            return 0, slices * lay.n, slices * lay.n * offer["usd"] / size
        instances = ceil(slices / (size // lay.n)) if lay.n <= size else slices * lay.n // size
        return instances, instances * size, instances * offer["usd"]

    def bought(self, plan, violated, bills):
        """The plan with its bills, and the violated limits."""
        search = self.search
        plan["instances"] = sum(instances for _, (instances, _, _) in bills)
        plan["chips"] = sum(chips for _, (_, chips, _) in bills)
        plan["usd_per_hour"] = sum(usd for _, (_, _, usd) in bills)
        plan["taken"] = {}
        for chip, (_, chips, _) in bills:
            plan["taken"][chip] = plan["taken"].get(chip, 0) + chips
        if plan["instances"] > search.get("max_instances", inf):
            violated.add("instances")
        if plan["slices"] + plan["pool_slices"] > search.get("max_slices", inf):
            violated.add("slices")
        return self.finished(plan, violated)

    def in_one_pool(self, mode, chunk):
        for plan, lay, when_there, violated in self.at_one_slice(mode, chunk):
            for offer in self.offers_of(lay):
                of_slice = when_there * self.left(offer)
                for slices in self.counts_alone(offer, lay, of_slice):
                    bought = {**plan, "slices": slices, "tokens_per_s": slices * of_slice, "offer": offer}
                    bills = [(lay.chip["name"], self.paid(offer, lay, slices))]
                    yield self.bought(bought, set(violated), bills)

    def at_one_slice(self, mode, chunk):
        for lay, batch in product(self.machines, range(1, self.search["max_batch"] + 1)):
            violated = lay.violations(batch, self.held, batch)
            (tpot, stall, ttft), _ = self.times_in_one_pool(lay, batch, chunk, violated)
            plan = {"mode": mode, "batch": batch, "tpot_s": tpot, "ttft_s": ttft, "stall_s": stall, "pool_slices": 0}
            plan["id"] = (*self.name(lay), batch)
            yield plan, lay, lay.replicas * self.within_loads(lay, batch / tpot), violated

    def left(self, offer):
        """The share of a slice that is there when spot machines are withdrawn."""
        return self.spec.get("spot_capacity", 1) if offer["purchase"] == "spot" else 1

    def counts_alone(self, offer, lay, of_slice):
        """Slices of one pool: what the demand needs, or full instances, or what a limit leaves of one."""
        if self.demand:
            return [self.slices_for(of_slice)]
        full = 1 if self.buy == "share" or offer["size"] is None else max(1, offer["size"] // lay.n)
        if self.any_number:
            return range(1, full + 1)
        return sorted({full, min(full, self.search.get("max_slices", full))})

    def in_two_pools(self):
        able = self.pools()
        for pool, lay in product(able, able):
            if pool.kv != lay.kv or not pool.is_first_layout or pool.ahead or lay.ahead:
                continue
            for pool_offer, offer in product(self.offers_of(pool), self.offers_of(lay)):
                one_cloud = pool_offer["cloud"] == offer["cloud"]
                regions = {pool_offer["region"], offer["region"]} - {None}
                if one_cloud and len(regions) <= 1:
                    yield from self.pair_at(pool, pool_offer, lay, offer)

    def network(self, lay, offer):
        known = [lay.chip["network_bytes_per_s"]]
        if offer["network"] is not None:
            known.append(offer["network"] / offer["size"])
        return min(known) * lay.y

    def pair_at(self, pool, pool_offer, lay, offer):
        whole = self.prefill_s(pool)
        sent_s = (
            pool.whole_bytes(self.prompt) / pool.fullest / min(self.network(pool, pool_offer), self.network(lay, offer))
        )
        shape = pool.violations(1, self.prompt, None) | ({"ici"} if pool.waits(self.new) else set())
        fed = pool.replicas * pool.pp * self.output / whole * self.left(pool_offer)
        for batch in range(1, self.search["max_batch"] + 1):
            step = self.step_s(lay, batch)
            waits = lay.waits(batch * (lay.ahead + 1) / lay.pp)
            violated = shape | lay.violations(batch, self.held, batch) | ({"ici"} if waits else set())
            of_slice = lay.replicas * batch * lay.accepted / step * self.left(offer)
            for pool_slices, slices in self.counts(fed, of_slice):
                plan = {
                    "mode": "disaggregated", "batch": batch, "ttft_s": whole + sent_s, "stall_s": step,
                    "tpot_s": step / lay.accepted,
                    "slices": slices, "pool_slices": pool_slices,
                    "tokens_per_s": min(pool_slices * fed, slices * of_slice),
                    "id": (*self.name(lay), batch),
                }  # fmt: skip
                bills = self.bills((pool, pool_offer, pool_slices), (lay, offer, slices))
                yield self.bought(plan, set(violated), bills)

    def bills(self, prefill, decode):
        (pool, pool_offer, pool_slices), (lay, offer, slices) = prefill, decode
        large, small = sorted((pool.n, lay.n), reverse=True)
        size = offer["size"] or 0
        if self.buy == "instances" and pool_offer == offer and large <= size and large % small == 0:
            counts = sorted(((pool.n, pool_slices), (lay.n, slices)), reverse=True)
            instances = packed(size, *counts[0], *counts[1])
            return [(lay.chip["name"], (instances, instances * size, instances * offer["usd"]))]
        return [
            (lay.chip["name"], self.paid(offer, lay, slices)),
            (pool.chip["name"], self.paid(pool_offer, pool, pool_slices)),
        ]

    def counts(self, fed, of_slice):
        if self.demand:
            yield self.slices_for(fed), self.slices_for(of_slice)
            return
        most = MAX_SMALLER_POOL_SLICES[self.buy]
        for one, other in product(range(1, most + 1), range(1, MOST + 1)):
            yield one, other
            if other > most:
                yield other, one

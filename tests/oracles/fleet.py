"""Fleets by enumeration: every number of replicas of every option in every period, in plain loops.

Takes plain mappings and imports nothing from servesat.
"""

from functools import cache
from itertools import pairwise, product
from typing import Any

from tests.oracles.pods import packs

MOST = 4  # replicas of an option that are tried


def bills(fleet: dict[str, Any], without: frozenset[tuple[str, ...]] = frozenset()):
    """Yield (bill, replicas by period, reserved chips) of every fleet that meets its limits, but for some left out."""
    options, hours, quotas = fleet["options"], fleet["hours"], fleet["quotas"]
    by_period = []
    for period in range(len(hours)):
        counts = product(range(MOST + 1), repeat=len(options))
        needs = fleet["needs"]
        by_period.append([one for one in counts if all(meets(fleet, need, one, period, without) for need in needs)])
    for replicas in product(*by_period):
        reserved: dict[tuple[str, str, float], int] = {}  # by price: those of some instances cost more
        usd = 0.0
        fits = True
        taken = [dict.fromkeys(quotas, 0) for _ in hours]
        for (region, chip, purchase), (chips, price, instances) in rented(options, replicas).items():
            kept = [max(instances)] * len(hours) if purchase == "reserved" else instances
            for period, count in enumerate(kept):
                usd += price * count * hours[period]
                if (region, chip) in quotas:
                    taken[period][region, chip] += chips * count
        for period, counts in enumerate(replicas):
            for option, count in zip(options, counts, strict=True):
                if option.get("machine"):
                    continue
                place = (option["region"], option["chip"])
                if option["purchase"] == "reserved":
                    sold = (*place, option["usd"])
                    use = sum(
                        other["chips"] * number
                        for other, number in zip(options, counts, strict=True)
                        if other["purchase"] == "reserved"
                        and (other["region"], other["chip"], other["usd"]) == sold
                        and not other.get("machine")
                    )
                    reserved[sold] = max(reserved.get(sold, 0), use)
                else:
                    usd += option["usd"] * option["chips"] * count * hours[period]
                    if place in quotas:
                        taken[period][place] += option["chips"] * count
        for place, quota in quotas.items():
            held = sum(count for (*where, _), count in reserved.items() if tuple(where) == place)
            if ("quota", *place) not in without and any(one[place] + held > quota for one in taken):
                fits = False
        for place, (shape, count) in fleet.get("pods", {}).items():
            if ("pods", *place) not in without and not all(
                stands(options, one, place, shape, count) for one in replicas
            ):
                fits = False
        usd += sum(price * count * sum(hours) for (_, _, price), count in reserved.items())
        by_option = list(zip(*replicas, strict=True))
        usd += fleet.get("usd_per_change", 0.0) * sum(abs(b - a) for one in by_option for a, b in pairwise(one))
        fits = fits and all(runs_in_few(fleet, need, by_option, without) for need in fleet["needs"])
        if fleet.get("earlier") is not None:
            changes, most = changed(fleet, replicas), fleet["earlier"]["max_changes"]
            usd += fleet["earlier"]["usd_per_change"] * changes
            fits = fits and (("max_changes",) in without or most is None or changes <= most)
        if fits and (("budget",) in without or fleet["budget"] is None or usd <= fleet["budget"] * (1 + 1e-9)):
            yield usd, replicas, reserved


def rented(options, replicas):
    """The instances of each machine in each period, with its chips and price, over every way to fill them."""
    found = {}
    for option in options:
        if option.get("machine"):
            key = (option["region"], option["chip"], option["purchase"])
            chips, price = option["machine"]
            found[key] = (chips, price, [instances(chips, pieces_in(options, counts, key)) for counts in replicas])
    return found


def pieces_in(options, counts, key) -> tuple[int, ...]:
    """The chips of each slice in the instances of a machine; a wider slice takes several whole ones."""
    pieces = []
    for option, count in zip(options, counts, strict=True):
        if option.get("machine") and (option["region"], option["chip"], option["purchase"]) == key:
            size = min(option["chips"], option["machine"][0])
            pieces += [size] * (count * option["chips"] // size)
    return tuple(sorted(pieces, reverse=True))


@cache
def instances(chips: int, pieces: tuple[int, ...]) -> int:
    """The fewest instances, over every choice of what stands beside the largest piece."""
    if not pieces:
        return 0
    first, others = pieces[0], pieces[1:]
    beside = {()}
    for size in others:
        beside |= {(*some, size) for some in beside if first + sum(some) + size <= chips}
    fewest = len(pieces)
    for some in beside:
        left = list(others)
        for size in some:
            left.remove(size)
        fewest = min(fewest, 1 + instances(chips, tuple(left)))
    return fewest


def runs_in_few(fleet, need, by_option, without) -> bool:
    """Whether a workload runs in no more configurations in a region than it may."""
    most = need.get("max_configurations")
    if most is None or ("max_configurations", need["name"]) in without:
        return True
    used: dict[str, set[str]] = {}
    for option, counts in zip(fleet["options"], by_option, strict=True):
        if option["workload"] == need["name"] and any(counts):
            used.setdefault(option["region"], set()).add(option["name"])
    return all(len(names) <= most for names in used.values())


def stands(options, counts, place, shape, pods) -> bool:
    """Whether the slices of some replicas stand together in the pods of a place."""
    here = [
        (option["slice"], (False,) * len(option["slice"]))
        for option, count in zip(options, counts, strict=True)
        for _ in range(count)
        if (option["region"], option["chip"]) == place
    ]
    return packs(shape, pods, tuple(sorted(here)))


def changed(fleet, replicas) -> int:
    """Replicas started or stopped against the earlier plan."""
    now: dict[tuple[str, str, str], list[int]] = {}
    for position, option in enumerate(fleet["options"]):
        place = (option["workload"], option["name"], option["region"])
        here = now.setdefault(place, [0] * len(replicas))
        for period, counts in enumerate(replicas):
            here[period] += counts[position]
    before = fleet["earlier"]["replicas"]
    none = [0] * len(replicas)
    return sum(
        abs(new - old)
        for place in {*now, *before}
        for new, old in zip(now.get(place, none), before.get(place, none), strict=True)
    )


def meets(fleet, need, counts, period, without) -> bool:
    """Whether so many replicas meet what one workload asks for in a period."""
    mine = [(o, n) for o, n in zip(fleet["options"], counts, strict=True) if o["workload"] == need["name"]]
    demand, name = need["demand"][period], need["name"]

    def served(keep, mine=mine) -> float:
        if "shares" in need:
            return mixed([(option["rates"], count) for option, count in mine if keep(option)], need["shares"][period])
        return sum(option["rate"] * count for option, count in mine if keep(option))

    whole = served(lambda _: True)
    if ("demand", name) not in without and whole < demand - 1e-9:
        return False
    share = need["max_share_per_region"]
    if share is not None and ("region_share", name) not in without:
        for region in {option["region"] for option, _ in mine} or {""}:
            if served(lambda o, region=region: o["region"] != region) < (1 - share) * demand - 1e-9:
                return False
    kept = served(lambda o: o["purchase"] != "spot")
    if ("spot_share", name) not in without and kept < (1 - need["max_spot_share"]) * demand - 1e-9:
        return False
    if need["n_plus"] and demand and ("n_plus", name) not in without:
        for option, count in mine:
            if not count:
                continue
            if "shares" not in need:
                left = whole - need["n_plus"] * option["rate"]
            else:
                alike = sum(other for own, other in mine if own["rates"] == option["rates"])
                if alike < need["n_plus"]:
                    return False
                rest = [(own, other) for own, other in mine if own["rates"] != option["rates"]]
                left = served(lambda _: True, [*rest, (option, alike - need["n_plus"])])
            if left < demand - 1e-9:
                return False
    return True


def mixed(replicas, shares) -> float:
    """Requests/s of two sizes, in their shares, that replicas serve: those turn to the first that are best at it."""
    first, second = 0.0, sum(rates[1] * count for rates, count in replicas)
    if not shares[0]:
        return second
    if not shares[1]:
        return sum(rates[0] * count for rates, count in replicas)
    for rates, count in sorted(replicas, key=lambda one: -one[0][0] / (one[0][1] or 1e-12)):
        more, less = rates[0] * count, rates[1] * count
        if (first + more) * shares[1] >= (second - less) * shares[0]:
            part = (second * shares[0] - first * shares[1]) / ((more * shares[1] + less * shares[0]) or 1.0)
            return (first + part * more) / shares[0]
        first, second = first + more, second - less
    return first / shares[0]


def goals(fleet: dict[str, Any]) -> tuple[float, int, int, int] | None:
    """The least bill, then the fewest moves from an earlier plan, configurations, and changes; None without a fleet."""
    best = None
    for usd, replicas, _ in bills(fleet):
        used = {
            (option["workload"], option["name"])
            for option, counts in zip(fleet["options"], zip(*replicas, strict=True), strict=True)
            if any(counts)
        }
        moved = sum(abs(after - before) for counts in zip(*replicas, strict=True) for before, after in pairwise(counts))
        moves = 0 if fleet.get("earlier") is None else changed(fleet, replicas)
        key = (round(usd, 6), moves, len(used), moved)
        best = key if best is None or key < best else best
    return best


def limits(fleet: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every limit of a fleet, by name."""
    found: list[tuple[str, ...]] = []
    for need in fleet["needs"]:
        found.append(("demand", need["name"]))
        found += [("region_share", need["name"])] if need["max_share_per_region"] is not None else []
        found += [("spot_share", need["name"])] if need["max_spot_share"] < 1 else []
        found += [("n_plus", need["name"])] if need["n_plus"] else []
        found += [("max_configurations", need["name"])] if need.get("max_configurations") is not None else []
    found += [("quota", *place) for place in fleet["quotas"]]
    found += [("pods", *place) for place in fleet.get("pods", {})]
    if fleet.get("earlier") is not None and fleet["earlier"]["max_changes"] is not None:
        found.append(("max_changes",))
    return found + ([("budget",)] if fleet["budget"] is not None else [])


def has_fleet(fleet: dict[str, Any], kept: set[tuple[str, ...]]) -> bool:
    """Whether a fleet meets these limits, whatever the others."""
    without = frozenset(limit for limit in limits(fleet) if limit not in kept)
    return next(bills(fleet, without), None) is not None

"""The spec of a fleet, as a user writes it: workloads with demand, regions with quotas and prices, and periods."""

from collections.abc import Mapping
from math import fsum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PrivateAttr, model_validator

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.reading import read_mapping
from servesat.core.validation import Count, Positive, Strict, nearest, refuse_unknown, shorten, validate
from servesat.fleet.pods.slices import Pods
from servesat.fleet.region import Region, pod_shape
from servesat.fleet.spec_sources import MAX_DEMAND, read_demand, read_deployment
from servesat.spec.notes import stale_prices
from servesat.spec.offers import Buy
from servesat.spec.slo import MAX_SHARE, Slo
from servesat.spec.spec import Spec
from servesat.spec.workload import Lengths, Tokens

MAX_PERIODS = 10_000
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, ge=0, le=MAX_DEMAND, allow_inf_nan=False)]
Hours = Annotated[float, Field(strict=True, ge=1e-3, le=1e6, allow_inf_nan=False)]


class RequestSize(Strict):
    """Requests of one length, in a workload whose requests have several lengths and share replicas."""

    prompt_tokens: Tokens = Field(description="Tokens of a prompt.")
    output_tokens: Tokens = Field(description="Tokens of an answer.")
    demand: tuple[Rate, ...] = Field(description="Requests/s in each period, written as that of a workload.")
    slo: Slo = Field(default=Slo(), description="Service levels that replace the deployment's.")

    @property
    def length(self) -> dict[str, Any]:
        """Overrides of the deployment's workload: the prompt and answer lengths, which replace all its lengths."""
        return {
            "workload.context_tokens": None,
            "workload.prompt_tokens": self.prompt_tokens,
            "workload.output_tokens": self.output_tokens,
        }

    @property
    def levels(self) -> dict[str, Any]:
        """Overrides of the deployment's service levels."""
        return {f"slo.{name}": getattr(self.slo, name) for name in sorted(self.slo.model_fields_set)}


_RENTED = {"cloud", "region", "purchase", "instance", "instances", "usd_per_hour", "usd_per_million_output_tokens"}
"""What a constraint of a deployment may name, and a fleet decides for each replica."""


class AtRandom(NamedTuple):
    """Requests of a Poisson process, a share of which must be within each limit, and how their lengths spread."""

    percentile: float
    lengths: Lengths = Lengths()


class FleetWorkload(Strict):
    """A model with the limits of one deployment of it, and the demand of each period.

    If its requests come in several `sizes`, `deployment` has the lengths of the first, and `demand` is the total.
    """

    deployment: Spec = Field(
        description="The limits of one replica: a deployment with a prompt and an answer, as a mapping or the path "
        "of a file. Prices are those of the regions, and `search.quota` is not allowed."
    )
    demand: tuple[Rate, ...] = Field(
        description="Requests/s: a number, a list with a number for each period, or `{csv: PATH, column: NAME}`."
    )
    sizes: dict[Annotated[str, Field(min_length=1)], RequestSize] = Field(
        default={}, description="Requests of several lengths on the same replicas, by name, instead of `demand`."
    )
    percentile: Annotated[float, Field(strict=True, gt=0, le=MAX_SHARE)] | None = Field(
        default=None,
        description="Share of the requests that must be within each limit when they arrive at random: a replica serves "
        "the rate at which its replays keep them. Absent: means are compared. Not for `sizes`.",
    )
    lengths: Lengths = Field(
        default=Lengths(),
        description="How the lengths of requests spread about their means, in the replays of `percentile`.",
    )
    regions: tuple[str, ...] | None = Field(default=None, description="Regions it may run in; absent: all.")
    chips: tuple[str, ...] | None = Field(default=None, description="Chips it may run on; absent: all.")
    n_plus: Annotated[int, Field(strict=True, ge=0, le=1000)] = Field(
        default=0,
        description="Replicas of one configuration in a region that may fail while the rest meets the demand.",
    )
    max_share_per_region: Fraction | None = Field(
        default=None, description="Share of the demand that the loss of one region may leave unserved."
    )
    max_spot_share: Fraction = Field(default=1.0, description="Share of the demand that may rest on spot capacity.")
    one_chip: Annotated[bool, Field(strict=True)] = Field(default=False, description="Use one type of chip only.")
    max_configurations: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        default=None, description="Maximum number of configurations in a region, over all periods; absent: any."
    )
    priority: Count = Field(default=1, description="Priority under `--degrade`; 1 is served first.")

    _deployments: dict[str, Spec] = PrivateAttr(default={})

    @property
    def at_random(self) -> AtRandom | None:
        """How requests arrive where limits hold for a share of them; None where means are compared."""
        return None if self.percentile is None else AtRandom(self.percentile, self.lengths)

    @property
    def deployments(self) -> dict[str, Spec]:
        """The deployment for each size of requests."""
        return self._deployments

    @model_validator(mode="after")
    def _read_deployments(self) -> Self:
        for name in ("regions", "chips"):
            if getattr(self, name) == ():
                raise ValueError(f"{name}: expected at least one; leave it out for all")
        if self.sizes and Mode.DISAGGREGATED in (self.deployment.search.modes or ()):
            raise ValueError(
                "deployment.search.modes: requests of several sizes share one pool; leave out disaggregated"
            )
        if self.sizes and self.percentile is not None:
            raise ValueError("percentile: expected none beside sizes, whose mix is not replayed")
        if self.lengths != Lengths() and self.percentile is None:
            raise ValueError("lengths: expected none without a percentile, as means do not depend on them")
        self._check_constraints()
        self._deployments = {}
        for name, size in self.sizes.items():
            try:
                self._deployments[name] = self.deployment.changed(size.length | size.levels)
            except SpecError as fault:
                raise ValueError(f"sizes.{name}: {str(fault).partition(': ')[2]}") from None
        return self

    def _check_constraints(self) -> None:
        """A fleet decides for each region and period where and how a configuration is rented, and at which price."""
        for position, expression in enumerate(self.deployment.expressions):
            rented = [name.id for name in expression.names if name.id in _RENTED]
            if rented:
                raise ValueError(
                    f"deployment.constraints.{position} = {shorten(expression.text)}: names {rented[0]}, which a fleet "
                    "decides for each replica: limit `regions`, their `purchases` or a quota instead"
                )


class FleetSpec(Strict):
    """A fleet to plan. `FleetSpec.load` reads it from a file or a mapping."""

    workloads: dict[str, FleetWorkload] = Field(min_length=1, description="Workloads by name.")
    regions: dict[str, Region] = Field(min_length=1, description="Regions by name.")
    periods_h: Annotated[tuple[Hours, ...], Field(min_length=1, max_length=MAX_PERIODS)] = Field(
        default=(1.0,), description="Hours of each period."
    )
    spot_capacity: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="Share of a spot replica's capacity that is counted."
    )
    buy: Buy = Field(
        default="instances",
        description="`instances`: replicas stand in whole machines; `share`: each pays its share of one.",
    )
    budget_usd: Positive | None = Field(default=None, description="Maximum bill over all periods.")
    usd_per_change: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] = Field(
        default=0.0,
        description="Cost of starting or stopping a replica between two periods, part of the bill [$]; moving one to "
        "other machines is both. No change is counted after the last period.",
    )

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path) -> "FleetSpec":
        """Read a fleet from a YAML file or a mapping. Paths are relative to the file. Raises SpecError."""
        data, where, folder = read_mapping(source, "fleet", cls.model_fields, SpecError)
        if "model" in data and "workloads" not in data:
            raise SpecError(f"{where}: is a deployment, as it has a model; expected a fleet: try `servesat solve`")
        if "deployments" in data and "workloads" not in data:
            raise SpecError(
                f"{where}: is a portfolio, as it has deployments; expected a fleet: try `servesat portfolio`"
            )
        refuse_unknown(cls, data, where=where, error=SpecError)
        workloads, periods = data.get("workloads"), data.get("periods_h", [1.0])
        if not isinstance(periods, list | tuple):
            raise SpecError(f"{where}: periods_h = {shorten(periods)}: expected a list of hours, as in [8, 16]")
        if isinstance(workloads, Mapping):
            resolved = {
                name: _resolve_workload(given, len(periods), folder, where, name) for name, given in workloads.items()
            }
            data = {**data, "workloads": resolved}
        return validate(cls, data, where=where, error=SpecError, context={"where": where, "folder": folder})

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        deployment_chips = self._deployment_chips()
        known = {*chip_ids(), *deployment_chips}
        for name, region in self.regions.items():
            for key, place, priced in (
                ("price_region", region.price_region, region.price_book.regions),
                ("price_cloud", region.price_cloud, region.price_book.clouds),
            ):
                if place is not None and place not in priced:
                    no_price = f"no price in {region.price_book.id} names it; {nearest(place, priced)}"
                    raise ValueError(f"regions.{name}.{key} = {place!r}: {no_price}")
            for chip in (*(region.quota or {}), *region.price, *region.pods):
                if chip not in known:
                    raise ValueError(f"regions.{name}: no chip {chip!r}; {nearest(chip, known)}")
            for chip, given in region.pods.items():
                if region.quota is not None and chip not in region.quota:
                    raise ValueError(
                        f"regions.{name}.pods.{chip}: the quota lists none of them; {nearest(chip, region.quota)}"
                    )
                pod_shape(deployment_chips.get(chip) or load_chip(chip), given, f"regions.{name}.pods.{chip}")
        for name, workload in self.workloads.items():
            for region_name in workload.regions or ():
                if region_name not in self.regions:
                    message = f"no region {region_name!r}; {nearest(region_name, self.regions)}"
                    raise ValueError(f"workloads.{name}.regions: {message}")
            for chip in workload.chips or ():
                if chip not in known:
                    raise ValueError(f"workloads.{name}.chips: no chip {chip!r}; {nearest(chip, known)}")
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """What planning rests on, in words: replayed rates, old prices, and ways to buy that have no price."""
        books = {region.price_book.id: region.price_book for region in self.regions.values()}
        notes = [note for book in books.values() for note in stale_prices(book)]
        for name, workload in self.workloads.items():
            if workload.percentile is not None:
                within = f"{workload.percentile:.4g} of the requests within the limits in replays"
                notes.append(f"workloads.{name}: a replica is planned for the highest rate that keeps {within}")
        for name, region in self.regions.items():
            chips = sorted(region.chips())
            for purchase in region.purchases:
                unpriced = [chip for chip in chips if not region.is_sold(chip, purchase)]
                if unpriced and (region.quota is not None or len(unpriced) == len(chips)):
                    these = ", ".join(unpriced) if region.quota is not None else "any chip"
                    reason = f"neither regions.{name}.price nor {region.price_book.id} has such a price"
                    notes.append(f"regions.{name}.purchases: {these} cannot be bought as {purchase}: {reason}")
            for chip, stated in region.price.items():
                of_book = [one for one in region.purchases if one not in stated and region.is_sold(chip, one)]
                if of_book:
                    ways = " and ".join(of_book)
                    notes.append(f"regions.{name}.price.{chip} states no {ways}: {region.price_book.id} has the price")
        return tuple(notes)

    def pods(self, region: str) -> dict[str, Pods]:
        """The pods of a region, by chip."""
        deployment_chips = self._deployment_chips()
        return {
            chip: Pods(pod_shape(deployment_chips.get(chip) or load_chip(chip), given, chip), given.count)
            for chip, given in self.regions[region].pods.items()
        }

    def _deployment_chips(self) -> dict[str, Chip]:
        """The chips that deployments name or define."""
        return {
            chip.id: chip for workload in self.workloads.values() for chip in workload.deployment.search.chips or ()
        }


def _resolve_workload(given: Any, periods: int, folder: Path, where: str, name: str) -> Any:
    """A workload with its deployment and demand read from the files they refer to. Raises SpecError."""
    if not isinstance(given, Mapping):
        return given
    refuse_unknown(FleetWorkload, given, where=where, error=SpecError, prefix=f"workloads.{name}")
    resolved, key = dict(given), f"{where}: workloads.{name}"
    first_size: dict[str, Any] = {}
    if "sizes" in given:
        sizes = _resolve_sizes(given["sizes"], periods, folder, where, f"workloads.{name}.sizes")
        if "demand" in given:
            raise SpecError(f"{key}.demand: expected none beside sizes; each of them has its own")
        first_size = next(iter(sizes.values())).length
        demand_by_period = zip(*(size.demand for size in sizes.values()), strict=True)
        resolved |= {"sizes": sizes, "demand": [fsum(rates) for rates in demand_by_period]}
    elif "demand" in given:
        resolved["demand"] = read_demand(given["demand"], periods, folder, key)
    if "deployment" in given:
        resolved["deployment"] = read_deployment(given["deployment"], folder, key, first_size)
    return resolved


def _resolve_sizes(given: Any, periods: int, folder: Path, where: str, key: str) -> dict[str, RequestSize]:
    """Requests of several sizes, with the demand of each read from the file it refers to. Raises SpecError."""
    if not isinstance(given, Mapping) or not given:
        expected = "expected prompt_tokens, output_tokens and demand of each, by name"
        raise SpecError(f"{where}: {key} = {shorten(given)}: {expected}")
    sizes, faults = {}, []
    for name, size in given.items():
        prefix = f"{key}.{name}"
        try:
            resolved = size
            if isinstance(size, Mapping) and "demand" in size:
                resolved = {**size, "demand": read_demand(size["demand"], periods, folder, f"{where}: {prefix}")}
            sizes[name] = validate(RequestSize, resolved, where=where, error=SpecError, prefix=prefix)
        except SpecError as fault:
            faults.append(str(fault))
    if faults:
        raise SpecError("\n".join(faults))
    return sizes

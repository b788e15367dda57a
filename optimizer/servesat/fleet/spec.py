"""What a user writes of a fleet: workloads with their demand, regions with their quotas and prices, and periods."""

import csv
from collections.abc import Mapping
from math import fsum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from servesat.catalogue.chip import Chip, Topology, axis_sizes, is_topology
from servesat.catalogue.load import chip_ids, load_chip, load_price_book
from servesat.catalogue.price_book import PriceBook, Purchase
from servesat.core.errors import CatalogueError, SpecError
from servesat.core.plan import Mode
from servesat.core.validation import Count, Positive, Strict, Usd, nearest, read_yaml, refuse_unknown, shorten, validate
from servesat.fleet.pods.slices import CUBIC, Box, Pods
from servesat.spec.spec import DEFAULT_PRICE_BOOK, Spec
from servesat.spec.workload import Slo, Tokens

MAX_PERIODS = 10_000
MAX_SIDE = 64
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)]
Hours = Annotated[float, Field(strict=True, ge=1e-3, le=1e6, allow_inf_nan=False)]
Some = Annotated[int, Field(strict=True, ge=0, le=10**9)]


def _origin(info: ValidationInfo) -> tuple[str, Path]:
    context = info.context or {}
    return context.get("where", "fleet"), context.get("folder", Path())


def _price_book(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    _, folder = _origin(info)
    try:
        return load_price_book(value, folder)
    except CatalogueError as fault:
        raise ValueError(str(fault)) from None


class PodsGiven(Strict):
    """The pods that slices of one chip must stand in."""

    count: Annotated[int, Field(strict=True, ge=0, le=10_000)]
    shape: Topology | None = Field(default=None, description="Chips along each axis; absent: where its axes close.")


class Region(Strict):
    """A place to rent chips: how many there are of each, how they may be bought, and for how much."""

    quota: dict[str, Some] | None = Field(default=None, description="Chips there are, by type; absent: any number.")
    purchases: Annotated[tuple[Purchase, ...], Field(min_length=1)] = ("on_demand",)
    price_book: Annotated[PriceBook, BeforeValidator(_price_book)] = Field(
        default=DEFAULT_PRICE_BOOK, validate_default=True
    )
    price_region: str | None = Field(default=None, description="The region of the price book; absent: any.")
    price: dict[str, dict[Purchase, Usd]] = Field(default={}, description="Own prices of a chip-hour, by chip.")
    pods: dict[str, PodsGiven] = Field(
        default={}, description="Pods that every slice must stand in, by chip; absent: chips are all alike."
    )

    def usd_per_chip_hour(self, chip: str, purchase: Purchase) -> float | None:
        """What a chip-hour costs; None where it is not sold so."""
        own = self.price.get(chip, {}).get(purchase)
        if own is not None:
            return own
        found = self.price_book.cheapest(chip, purchase, self.price_region)
        return None if found is None else found.usd_per_chip_hour

    def chips(self) -> set[str]:
        """The chips that may be rented here."""
        if self.quota is not None:
            return {chip for chip, count in self.quota.items() if count}
        return {*self.price, *self.price_book.chips}


class RequestSize(Strict):
    """Requests of one length, of a workload that has several: replicas serve them beside the others."""

    prompt_tokens: Tokens
    output_tokens: Tokens
    demand: tuple[Rate, ...] = Field(description="Requests/s in each period.")
    slo: Slo = Field(default=Slo(), description="Service levels in place of the deployment's.")

    @property
    def length(self) -> dict[str, Any]:
        """What it changes of a deployment's workload: the prompt and the answer, in place of all that it says."""
        return {
            "workload.context_tokens": None,
            "workload.prompt_tokens": self.prompt_tokens,
            "workload.output_tokens": self.output_tokens,
        }

    @property
    def levels(self) -> dict[str, Any]:
        """What it changes of a deployment's service levels."""
        return {f"slo.{name}": getattr(self.slo, name) for name in sorted(self.slo.model_fields_set)}


class FleetWorkload(Strict):
    """A model that is served to many: what one deployment of it must do, and how much is asked for in each period.

    Where its requests come in several `sizes`, the deployment is that of the first, and `demand` that of all.
    """

    deployment: Spec
    demand: tuple[Rate, ...] = Field(description="Requests/s in each period.")
    sizes: dict[Annotated[str, Field(min_length=1)], RequestSize] = Field(
        default={}, description="Requests of several lengths, by name."
    )
    regions: tuple[str, ...] | None = Field(default=None, description="Where it may run; absent: anywhere.")
    chips: tuple[str, ...] | None = Field(default=None, description="What it may run on; absent: any.")
    n_plus: Annotated[int, Field(strict=True, ge=0, le=1000)] = Field(
        default=0, description="Replicas of one configuration that may fail while the rest meets the demand."
    )
    max_share_per_region: Fraction | None = Field(
        default=None, description="Share of the demand that the loss of one region may leave unserved."
    )
    max_spot_share: Fraction = Field(default=1.0, description="Share of the demand that may rest on spot capacity.")
    one_chip: Annotated[bool, Field(strict=True)] = Field(default=False, description="One type of chip throughout.")
    priority: Count = Field(default=1, description="1 is served first when capacity is short.")

    _deployments: dict[str, Spec] = PrivateAttr(default={})

    @property
    def deployments(self) -> dict[str, Spec]:
        """What one deployment must do for each size of requests."""
        return self._deployments

    @model_validator(mode="after")
    def _read_deployments(self) -> Self:
        if self.sizes and Mode.DISAGGREGATED in (self.deployment.search.modes or ()):
            raise ValueError(
                "deployment.search.modes: requests of several sizes share one pool; leave out disaggregated"
            )
        self._deployments = {}
        for name, size in self.sizes.items():
            try:
                self._deployments[name] = self.deployment.changed(size.length | size.levels)
            except SpecError as fault:
                raise ValueError(f"sizes.{name}: {str(fault).partition(': ')[2]}") from None
        return self


class FleetSpec(Strict):
    """A fleet to plan. `FleetSpec.load` reads it from a file or a mapping."""

    workloads: dict[str, FleetWorkload] = Field(min_length=1)
    regions: dict[str, Region] = Field(min_length=1)
    periods_h: Annotated[tuple[Hours, ...], Field(min_length=1, max_length=MAX_PERIODS)] = Field(
        default=(1.0,), description="Hours of each period."
    )
    spot_capacity: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="Share of a spot replica's capacity that is counted on."
    )
    budget_usd: Positive | None = Field(default=None, description="Most money over all periods.")

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path) -> "FleetSpec":
        """Read a fleet from a YAML file or a mapping. Paths are relative to the file. Raises SpecError."""
        if isinstance(source, Mapping):
            data: object = source
            where, folder = "fleet", Path()
        else:
            path = Path(source)
            data, where, folder = read_yaml(path, SpecError), str(path), path.parent
        if not isinstance(data, Mapping):
            raise SpecError(f"{where}: expected a mapping with the keys {', '.join(cls.model_fields)}")
        refuse_unknown(cls, data, where=where, error=SpecError)
        workloads, periods = data.get("workloads"), data.get("periods_h", [1.0])
        if isinstance(workloads, Mapping) and isinstance(periods, list | tuple):
            read = {name: _workload(given, len(periods), folder, where, name) for name, given in workloads.items()}
            data = {**data, "workloads": read}
        return validate(cls, data, where=where, error=SpecError, context={"where": where, "folder": folder})

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        own = self._own_chips()
        known = {*chip_ids(), *own}
        for name, region in self.regions.items():
            there, wanted = region.price_book.regions, region.price_region
            if wanted is not None and wanted not in there:
                no_price = f"no price in {region.price_book.id} names it; {nearest(wanted, there)}"
                raise ValueError(f"regions.{name}.price_region = {wanted!r}: {no_price}")
            for chip in (*(region.quota or {}), *region.price, *region.pods):
                if chip not in known:
                    raise ValueError(f"regions.{name}: no chip {chip!r}; {nearest(chip, known)}")
            for chip, given in region.pods.items():
                if region.quota is not None and chip not in region.quota:
                    raise ValueError(
                        f"regions.{name}.pods.{chip}: the quota lists none of them; {nearest(chip, region.quota)}"
                    )
                shape_of(own.get(chip) or load_chip(chip), given, f"regions.{name}.pods.{chip}")
        for name, workload in self.workloads.items():
            for place in workload.regions or ():
                if place not in self.regions:
                    raise ValueError(f"workloads.{name}.regions: no region {place!r}; {nearest(place, self.regions)}")
            for chip in workload.chips or ():
                if chip not in known:
                    raise ValueError(f"workloads.{name}.chips: no chip {chip!r}; {nearest(chip, known)}")
        return self

    def pods(self, region: str) -> dict[str, Pods]:
        """The pods of a region, by chip."""
        own = self._own_chips()
        return {
            chip: Pods(shape_of(own.get(chip) or load_chip(chip), given, chip), given.count)
            for chip, given in self.regions[region].pods.items()
        }

    def _own_chips(self) -> dict[str, Chip]:
        """Chips that deployments name or write out."""
        found = (chip for workload in self.workloads.values() for chip in workload.deployment.search.chips or ())
        return {chip.id: chip for chip in found}


def shape_of(chip: Chip, given: PodsGiven, key: str) -> Box:
    """The shape of the pods of a chip. Raises ValueError where its slices are no blocks of two or three axes."""
    closes = [axis.wraps_every for axis in chip.axes]
    if len(closes) not in (2, CUBIC) or None in closes:
        raise ValueError(f"{key}: the slices of {chip.id} are no blocks; expected a torus of 2 or 3 axes, as of a TPU")
    if given.shape is not None and not is_topology(given.shape):
        raise ValueError(f"{key}.shape = {given.shape!r}: expected chips along each axis, as in '16x16'")
    shape = tuple(side or 1 for side in closes) if given.shape is None else axis_sizes(given.shape)
    if len(shape) != len(closes):
        raise ValueError(f"{key}.shape = {given.shape}: expected {len(closes)} sizes, as {chip.id} has axes")
    if len(shape) == CUBIC and len(set(shape)) > 1:
        raise ValueError(f"{key}.shape = {given.shape}: expected a cube, as 4x4x4: cubes are joined by optical links")
    if max(shape) > MAX_SIDE:
        raise ValueError(f"{key}.shape = {given.shape}: expected at most {MAX_SIDE} chips along an axis")
    return shape


def _workload(given: Any, periods: int, folder: Path, where: str, name: str) -> Any:
    """A workload with its deployment and its demand read. Raises SpecError."""
    if not isinstance(given, Mapping):
        return given
    refuse_unknown(FleetWorkload, given, where=where, error=SpecError, prefix=f"workloads.{name}")
    read, key = dict(given), f"{where}: workloads.{name}"
    first: dict[str, Any] = {}
    if "sizes" in given:
        sizes = _sizes(given["sizes"], periods, folder, where, f"workloads.{name}.sizes")
        if "demand" in given:
            raise SpecError(f"{key}.demand: expected none beside sizes; each of them has its own")
        first = next(iter(sizes.values())).length
        every = zip(*(size.demand for size in sizes.values()), strict=True)
        read |= {"sizes": sizes, "demand": [fsum(of_period) for of_period in every]}
    elif "demand" in given:
        read["demand"] = _demand(given["demand"], periods, folder, key)
    if "deployment" in given:
        read["deployment"] = _deployment(given["deployment"], folder, key, first)
    return read


def _sizes(given: Any, periods: int, folder: Path, where: str, key: str) -> dict[str, RequestSize]:
    """Requests of several sizes, with the demand of each read. Raises SpecError."""
    if not isinstance(given, Mapping) or not given:
        expected = "expected prompt_tokens, output_tokens and demand of each, by name"
        raise SpecError(f"{where}: {key} = {shorten(given)}: {expected}")
    read, faults = {}, []
    for name, size in given.items():
        own, prefix = size, f"{key}.{name}"
        try:
            if isinstance(size, Mapping) and "demand" in size:
                own = {**size, "demand": _demand(size["demand"], periods, folder, f"{where}: {prefix}")}
            read[name] = validate(RequestSize, own, where=where, error=SpecError, prefix=prefix)
        except SpecError as fault:
            faults.append(str(fault))
    if faults:
        raise SpecError("\n".join(faults))
    return read


def _deployment(given: Any, folder: Path, key: str, first: Mapping[str, Any]) -> Spec:
    """A deployment, with what the first size of requests changes of it. Raises SpecError."""
    if not isinstance(given, Mapping | str):
        raise SpecError(f"{key}.deployment = {shorten(given)}: expected a mapping, or the path of a spec")
    try:
        spec = _priced_elsewhere(folder / given if isinstance(given, str) else given, folder, first)
    except SpecError as fault:
        raise SpecError("\n".join(f"{key}.deployment: {line}" for line in str(fault).splitlines())) from None
    for name in ("prompt_tokens", "output_tokens"):
        if getattr(spec.workload, name) is None:
            raise SpecError(f"{key}.deployment.workload.{name} is missing: a fleet serves whole requests")
    if spec.search.quota:
        raise SpecError(f"{key}.deployment.search.quota: expected none; the quotas of a fleet are those of its regions")
    if spec.workload.requests_per_s is not None:
        raise SpecError(f"{key}.deployment.workload.requests_per_s: expected none; the fleet's demand says how many")
    return spec


def _priced_elsewhere(source: Mapping[str, Any] | Path, folder: Path, first: Mapping[str, Any]) -> Spec:
    """A deployment on chips of any price: what they cost is the regions' to say. Raises SpecError."""
    prices = {f"price.{chip}": 1.0 for chip in chip_ids()}
    try:
        return Spec.load(source, overrides={**prices, **first}, folder=folder)
    except SpecError:
        Spec.load(source, overrides=first, folder=folder)  # says what is wrong of the keys that are there
        raise


def _demand(given: Any, periods: int, folder: Path, key: str) -> Any:
    """Demand as a list with one number a period: from a number, a list, or a column of a CSV file. Raises SpecError."""
    if isinstance(given, Mapping):
        given = _column(given, folder, f"{key}.demand")
    if isinstance(given, int | float) and not isinstance(given, bool):
        return [_number(given, f"{key}.demand")] * periods
    if isinstance(given, list | tuple):
        if len(given) != periods:
            raise SpecError(f"{key}.demand: {len(given)} numbers, expected {periods}, one a period")
        return [
            _number(one, f"{key}.demand.{position}") if isinstance(one, int) and not isinstance(one, bool) else one
            for position, one in enumerate(given)
        ]
    raise SpecError(f"{key}.demand = {shorten(given)}: expected a number, a list, or {{csv: PATH, column: NAME}}")


def _number(given: float, key: str) -> float:
    try:
        return float(given)
    except OverflowError:
        raise SpecError(f"{key} = {shorten(given)}: expected at most 1e12") from None


def _column(given: Mapping[str, Any], folder: Path, key: str) -> list[float]:
    if set(given) != {"csv", "column"}:
        raise SpecError(f"{key} = {shorten(dict(given))}: expected the keys csv and column")
    path, column = folder / str(given["csv"]), str(given["column"])
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restkey=""))
    except (OSError, ValueError, csv.Error) as fault:
        raise SpecError(f"{key}.csv: {path}: cannot be read: {getattr(fault, 'strerror', None) or fault}") from None
    if not rows or column not in rows[0]:
        raise SpecError(
            f"{key}.column: {path} has no column {column!r}; {nearest(column, filter(None, rows[0] if rows else ()))}"
        )
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            found.append(float(row[column]))
        except (TypeError, ValueError):
            raise SpecError(f"{key}: {path}, line {number}: {column} = {row[column]!r}: expected a number") from None
    return found

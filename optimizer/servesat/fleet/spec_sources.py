"""Reads what a fleet's spec refers to: demand from a number, a list or a CSV column, and deployments of workloads."""

from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO
from math import nan
from pathlib import Path
from typing import Any

from servesat.catalogue.load import chip_ids
from servesat.core.errors import SpecError
from servesat.core.reading import read_text, table_rows
from servesat.core.validation import shorten
from servesat.spec.keys import LOAD_IN_PRODUCTION
from servesat.spec.slo import LIMITS
from servesat.spec.spec import MARKET, Spec

MAX_DEMAND = 1e12
"""Requests/s of a workload."""

OF_REGIONS = (*MARKET, "price", "buy", "owned", "spot_capacity")
"""Keys of a spec that the regions of a fleet have in its place."""


def read_demand(given: Any, periods: int, folder: Path, key: str) -> Any:
    """Demand as a list with a number for each period, from a number, a list or a CSV column. Raises SpecError."""
    if isinstance(given, Mapping):
        given = _csv_column(given, folder, f"{key}.demand")
    if isinstance(given, int | float) and not isinstance(given, bool):
        return [_as_float(given, f"{key}.demand")] * periods
    if isinstance(given, list | tuple):
        if len(given) != periods:
            numbers = "1 number" if len(given) == 1 else f"{len(given)} numbers"
            raise SpecError(f"{key}.demand: {numbers}, expected {periods}, one a period")
        return [
            _as_float(value, f"{key}.demand.{position}")
            if isinstance(value, int) and not isinstance(value, bool)
            else value
            for position, value in enumerate(given)
        ]
    raise SpecError(f"{key}.demand = {shorten(given)}: expected a number, a list, or {{csv: PATH, column: NAME}}")


def _as_float(value: float, key: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise SpecError(f"{key} = {shorten(value)}: expected at most 1e12") from None


def _csv_column(given: Mapping[str, Any], folder: Path, key: str) -> list[float]:
    if set(given) != {"csv", "column"}:
        raise SpecError(f"{key} = {shorten(dict(given))}: expected the keys csv and column")
    path, column = folder / str(given["csv"]), str(given["column"])
    try:
        columns, lines = table_rows(StringIO(read_text(path, SpecError), newline=""), path, SpecError)
        rows = list(lines)
    except SpecError as fault:
        raise SpecError(f"{key}.csv: {fault}") from None
    if column not in columns:
        near = get_close_matches(column, columns, n=1)  # the others are not shown: it may be any file
        hint = f"did you mean {near[0]!r}?" if near else "expected one of the names in its first line"
        raise SpecError(f"{key}.column: {path} has no column {column!r}; {hint}")
    return [_demand_in(row[column] or "", f"{key}: {path}, line {number}: {column}") for number, row in rows]


def _demand_in(cell: str, where: str) -> float:
    """The demand in a cell. Raises SpecError for none, or one that no workload has."""
    try:
        value = float(cell) if cell.isascii() and "_" not in cell else nan
    except ValueError:
        value = nan
    if not 0 <= value <= MAX_DEMAND:
        raise SpecError(f"{where} = {cell!r}: expected a number, 0 to 1e12")
    return value


def read_deployment(given: Any, folder: Path, key: str, first_size: Mapping[str, Any]) -> Spec:
    """A deployment, with the prompt and answer lengths of the first size of requests. Raises SpecError."""
    if not isinstance(given, Mapping | str):
        raise SpecError(f"{key}.deployment = {shorten(given)}: expected a mapping, or the path of a spec")
    if isinstance(given, Mapping):
        for name in OF_REGIONS:
            if name in given:
                raise SpecError(f"{key}.deployment.{name}: expected none; regions say where chips are rented, and how")
        _refuse_shares(given, key)
    try:
        spec = _load_without_prices(folder / given if isinstance(given, str) else given, folder, first_size)
    except SpecError as fault:
        raise SpecError("\n".join(f"{key}.deployment: {line}" for line in str(fault).splitlines())) from None
    for name in ("prompt_tokens", "output_tokens"):
        if getattr(spec.workload, name) is None:
            raise SpecError(f"{key}.deployment.workload.{name} is missing: a fleet serves whole requests")
    if spec.search.quota:
        raise SpecError(f"{key}.deployment.search.quota: expected none; the quotas of a fleet are those of its regions")
    if spec.workload.requests_per_s is not None:
        raise SpecError(f"{key}.deployment.workload.requests_per_s: expected none; the fleet's demand says how many")
    if spec.calibration is not None and "utilisation" not in spec.model_fields_set:
        return spec.changed({"utilisation": LOAD_IN_PRODUCTION})
    return spec


def _refuse_shares(given: Mapping[str, Any], key: str) -> None:
    """Raise SpecError for limits on a share of the requests: these belong to the workload, whose demand arrives."""
    slo, workload = (given.get(part) for part in ("slo", "workload"))
    stated = ["workload.lengths"] if isinstance(workload, Mapping) and "lengths" in workload else []
    if isinstance(workload, Mapping) and "arrivals" in workload:
        raise SpecError(f"{key}.deployment.workload.arrivals: expected none; the fleet's demand says what arrives")
    if isinstance(slo, Mapping):
        shares = ("percentile", "percentiles", "goodput")
        stated += [f"slo.{name}" for name in shares if slo.get(name, "mean") != "mean"]
        stated += [f"slo.{name}" for name in LIMITS if isinstance(slo.get(name), Mapping)]
    if stated:
        expected = (
            "expected a limit on the mean; limits on a share of the requests are set by the workload's percentile"
        )
        raise SpecError(f"{key}.deployment.{stated[0]}: {expected}")


def _load_without_prices(source: Mapping[str, Any] | Path, folder: Path, first_size: Mapping[str, Any]) -> Spec:
    """A deployment with a nominal price for every chip, since the regions set the prices. Raises SpecError."""
    prices = {f"price.{chip}": 1.0 for chip in chip_ids()}
    try:
        return Spec.load(source, overrides={**prices, **first_size}, folder=folder)
    except SpecError:
        Spec.load(source, overrides=first_size, folder=folder)  # its error names the user's keys, if it fails too
        raise

"""The service levels of a spec: limits on means or on percentiles of the requests."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from servesat.core.validation import Positive, Strict, shorten
from servesat.spec.workload import Share

Limited = Literal["ttft_ms", "tpot_ms", "e2e_ms"]

LIMITS: tuple[Limited, ...] = get_args(Limited)
"""The service levels that hold for a share of the requests."""

MAX_SHARE = 0.999
"""The largest percentile: replays of 12,500 requests each verify it."""


def _resolve_percentile(value: Any) -> Any:
    is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SHARE
    if value is None or value == "mean" or is_share:
        return value
    raise ValueError(f"{shorten(value)}: expected a share of the requests up to {MAX_SHARE}, as 0.95, or `mean`")


_PERCENTILE = re.compile(r"p\d{1,2}(\.\d+)?$")


def _percentiles(limits: dict[str, float]) -> dict[str, float]:
    wrong = [name for name in limits if not _PERCENTILE.match(name)]
    if wrong or not limits:
        raise ValueError(f"{wrong or 'is empty'}: expected percentiles as in {{p99: 800, p50: 200}}")
    if rare := [name for name in limits if not 0 < float(name[1:]) <= 100 * MAX_SHARE]:
        raise ValueError(f"{rare[0]}: expected a percentile above p0, up to p{100 * MAX_SHARE:g}")
    return limits


class Slo(Strict):
    """The service levels that a plan must meet; None sets no limit."""

    tpot_ms: Positive | None = Field(default=None, description="Longest mean time per output token [ms].")
    ttft_ms: Positive | None = Field(default=None, description="Longest time to the first token [ms].")
    e2e_ms: Positive | None = Field(default=None, description="Longest time from request to last token [ms].")
    stall_ms: Positive | None = Field(default=None, description="Longest pause between two tokens [ms].")
    min_tokens_per_s: Positive | None = Field(
        default=None,
        description="Least output [tokens/s] of one slice, of what fills an instance, or of two pools of any size. "
        "For any number of slices give `workload.requests_per_s`.",
    )
    percentile: Annotated[float | Literal["mean"] | None, BeforeValidator(_resolve_percentile)] = Field(
        default=None,
        description="Share of the requests that must be within each limit, verified by a replay; `mean` compares "
        "means. Absent: 0.95 with a demand, and `mean` without one or under the ideal cost model.",
    )
    percentiles: dict[Limited, Annotated[dict[str, Positive], AfterValidator(_percentiles)]] = Field(
        default={}, description="Limits of several percentiles; usually written as `ttft_ms: {p99: 800, p50: 200}`."
    )
    goodput: Share | None = Field(default=None, description="Least share of the requests within all limits together.")
    margin: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Share by which predicted times stay below their limits. Absent: the error of a prediction, and 0 "
        "under the ideal cost model.",
    )

    @model_validator(mode="before")
    @classmethod
    def _several_percentiles(cls, data: Any) -> Any:
        """A limit may be a mapping of percentiles: then its own is the lowest, which some request must meet alone.

        A limit that is taken away takes its percentiles with it.
        """
        if not isinstance(data, Mapping):
            return data
        found, named = dict(data), data.get("percentiles", {})
        if not isinstance(named, Mapping):
            return data
        named = dict(named)
        for key in LIMITS:
            if isinstance(found.get(key), Mapping):
                named[key] = {str(name): value for name, value in found[key].items()}
            elif key in found and found[key] is None:
                named.pop(key, None)
            limits = named.get(key)
            if isinstance(limits, Mapping):
                numbers = [float(value) for value in limits.values() if isinstance(value, int | float)]
                found[key] = min(numbers) if numbers and len(numbers) == len(limits) else None
        return {**found, "percentiles": named} if named or "percentiles" in found else found

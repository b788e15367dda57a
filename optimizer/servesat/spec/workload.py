"""The workload of a spec: its requests, when they arrive, and how long they are."""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from servesat.catalogue.prefix_cache import hit_shares
from servesat.catalogue.traces import Trace, read_trace
from servesat.core.arrays import Array
from servesat.core.errors import CatalogueError, SpecError
from servesat.core.tolerances import round_up, snap
from servesat.core.validation import MAY_BE_NONE, Positive, Strict, shorten
from servesat.spec.references import origin_of

MAX_TOKENS = 10**9
MAX_TOKENS_PER_S = 1e13
"""An upper bound on demand, small enough to count chips exactly in floats."""

Tokens = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS)]


Spread = Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)]
"""A standard deviation as a share of its mean."""

Share = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]


class Arrivals(Strict):
    """How requests arrive: at times of their own, each a renewal after the last, or as a trace has them."""

    gamma_cv: Spread = Field(
        default=1.0,
        description="Standard deviation of the time between requests, as a share of its mean; 1 is Poisson, 0 a clock.",
    )
    trace: str | None = Field(
        default=None,
        description="Path of a recorded trace of Azure, Mooncake, BurstGPT or `vllm bench serve`, or of a CSV with "
        "time, prompt_tokens and output_tokens. What the workload does not state is then the trace's mean.",
    )
    _file: Path | None = PrivateAttr(default=None)
    _written: tuple[int, int] | None = PrivateAttr(default=None)  # so that one of a file that changed is another

    @model_validator(mode="after")
    def _find_trace(self, info: ValidationInfo) -> Self:
        if self.trace is not None and self.gamma_cv != 1:
            raise ValueError("gamma_cv has no effect beside a trace, whose requests come as they were recorded")
        if self.trace is not None and self._file is None:
            self._file = _file_at(self.trace, info)
            self._written = self._file.stat().st_mtime_ns, self._file.stat().st_size
        return self

    @property
    def file(self) -> Path | None:
        """The file of the trace, which `trace` names relative to the spec."""
        return self._file

    @property
    def recorded(self) -> Trace | None:
        """The trace, where there is one. Raises CatalogueError where its file cannot be read any more."""
        return None if self._file is None else read_trace(self._file)


def _file_at(name: str, info: ValidationInfo) -> Path:
    _, folder = origin_of(info)
    return (folder / name).resolve()


class Lengths(Strict):
    """How the lengths of requests spread about their means, log-normally; 0: all are alike."""

    prompt_cv: Spread = Field(
        default=0.0, description="Standard deviation of the prompt's length, as a share of its mean."
    )
    output_cv: Spread = Field(
        default=0.0, description="Standard deviation of the answer's length, as a share of its mean."
    )


def _resolve_arrivals(value: Any, info: ValidationInfo) -> Any:
    if value == "poisson":
        return Arrivals()
    where, _ = origin_of(info)
    if isinstance(value, str) and value.endswith((".csv", ".json", ".jsonl")):
        value = {"trace": value}
    if isinstance(value, str):
        expected = "poisson, {gamma_cv: 2}, or {trace: FILE}"
        raise SpecError(f"{where}: workload.arrivals = {shorten(value)}: expected {expected}")
    if isinstance(value, Mapping) and isinstance(value.get("trace"), str):
        try:
            read_trace(_file_at(value["trace"], info))
        except CatalogueError as fault:
            raise SpecError(f"{where}: workload.arrivals.trace = {shorten(value['trace'])}: {fault}") from None
    return value


def _resolve_hit(value: Any, info: ValidationInfo) -> Any:
    """The share that a cache of so many tokens hits of a trace. Raises SpecError."""
    if not isinstance(value, Mapping):
        return value
    where, _ = origin_of(info)
    name, tokens = value.get("trace"), value.get("cache_tokens")
    known = set(value) == {"trace", "cache_tokens"} and isinstance(name, str)
    if not known or isinstance(tokens, bool) or not isinstance(tokens, int | float) or tokens <= 0:
        expected = "a share, or {trace: FILE, cache_tokens: N}"
        raise SpecError(f"{where}: workload.prefix_cache_hit = {shorten(dict(value))}: expected {expected}")
    try:
        (share,) = hit_shares(read_trace(_file_at(str(name), info)), [float(tokens)])
    except CatalogueError as fault:
        raise SpecError(f"{where}: workload.prefix_cache_hit.trace = {shorten(name)}: {fault}") from None
    return round(float(share), 6)


class HostCache(Strict):
    """A prefix cache in the memory of a replica's hosts, from which prompts load what the chips no longer hold."""

    tokens: Tokens = Field(
        description="Tokens that it holds, with copies of those in the memory of the chips; of each group of chips "
        "that attends apart, as each has a cache of its own."
    )
    hit: Share | None = Field(
        default=None,
        description="Share of the prompt that it holds and the memory of the chips does not; absent: as the trace of "
        "`prefix_cache_hit` says.",
    )


class Workload(Strict):
    """The tokens of a request: prompt and output, or for decoding alone the context of a sequence."""

    context_tokens: Tokens | None = Field(
        default=None,
        description="KV cache that a sequence holds and reads; without prompt_tokens, decoding only. Absent: prompt + "
        "output are held, prompt + output / 2 read.",
    )
    prompt_tokens: Tokens | None = Field(
        default=None, description="Tokens of a prompt; with output_tokens, whole requests are served, prefill included."
    )
    output_tokens: Tokens | None = Field(
        default=None,
        description="Tokens of an answer; beside context_tokens alone, decoding is counted in requests per second.",
    )
    prefix_cache_hit: Annotated[
        Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)], BeforeValidator(_resolve_hit)
    ] = Field(
        default=0.0,
        description="Share of the prompt whose KV cache is there already; or `{trace: FILE, cache_tokens: N}`: what a "
        "cache of N tokens in the memory of the chips hits of a trace with block ids.",
    )
    host_cache: Annotated[HostCache | None, MAY_BE_NONE] = Field(
        default=None, description="A larger, slower prefix cache in the memory of the hosts, as in `{tokens: 5000000}`."
    )
    requests_per_s: Positive | None = Field(
        default=None,
        description="Demand. As many whole slices as it needs are rented; absent: one slice, and the cost at full "
        "load.",
    )
    arrivals: Annotated[Arrivals, BeforeValidator(_resolve_arrivals)] = Field(
        default=Arrivals(), description="How requests arrive: `poisson`, `{gamma_cv: 2}`, or `{trace: FILE}`."
    )
    lengths: Lengths = Field(
        default=Lengths(), description="Spread of lengths about their means, as in `{prompt_cv: 0.5}`."
    )

    @model_validator(mode="before")
    @classmethod
    def _host_hit_of_trace(cls, data: Any, info: ValidationInfo) -> Any:
        """What a host's cache hits beyond that of the chips, of the trace that says what they hit."""
        if not isinstance(data, Mapping):
            return data
        behind, hit = data.get("host_cache"), data.get("prefix_cache_hit")
        if not isinstance(behind, Mapping) or not isinstance(hit, Mapping) or behind.get("hit") is not None:
            return data
        tokens = behind.get("tokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int):
            return data
        of_chips = _resolve_hit(hit, info)
        more = _resolve_hit({**hit, "cache_tokens": tokens}, info) - of_chips
        if more <= 0:
            where, _ = origin_of(info)
            raise SpecError(
                f"{where}: workload.host_cache.tokens = {tokens}: hits no more of the trace than cache_tokens = "
                f"{hit['cache_tokens']} of the chips"
            )
        return {**data, "prefix_cache_hit": of_chips, "host_cache": {**behind, "hit": round(more, 6)}}

    @model_validator(mode="before")
    @classmethod
    def _means_of_trace(cls, data: Any, info: ValidationInfo) -> Any:
        """Fill in the means of the trace for what the workload does not state."""
        if not isinstance(data, Mapping) or not data.get("arrivals") or data.get("context_tokens"):
            return data
        found = _resolve_arrivals(data["arrivals"], info)
        trace = found.recorded if isinstance(found, Arrivals) else None
        if isinstance(found, Mapping) and isinstance(found.get("trace"), str):
            trace = read_trace(_file_at(found["trace"], info))
        if trace is None:
            return data
        means = {**trace.mean_lengths, "requests_per_s": trace.requests_per_s}
        given = {**means, **{key: value for key, value in data.items() if value is not None}}
        if given["requests_per_s"] is None:
            raise ValueError(
                f"arrivals.trace: {trace.name} has no rate, as its requests all come at once: give requests_per_s"
            )
        return given

    @model_validator(mode="after")
    def _context_or_request(self) -> Self:
        context, prompt, output = self.context_tokens, self.prompt_tokens, self.output_tokens
        if (context is None and prompt is None) or (prompt is not None and output is None):
            raise ValueError(
                "expected prompt_tokens and output_tokens, or for decoding alone context_tokens, with or without "
                "output_tokens"
            )
        if prompt is None and output is not None and output > (context or 0):
            raise ValueError(
                f"output_tokens = {output}: expected at most context_tokens = {context}, which holds them too"
            )
        if (self.requests_per_s or 0.0) * (self.output_tokens or 0) > MAX_TOKENS_PER_S:
            raise ValueError(
                f"requests_per_s = {self.requests_per_s:g} of {self.output_tokens} tokens: expected at most "
                f"{MAX_TOKENS_PER_S:g} tokens/s"
            )
        if self.prompt_tokens is None:
            for key in ("prefix_cache_hit", "host_cache", "arrivals", "lengths"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} needs prompt_tokens")
            if self.requests_per_s is not None and output is None:
                raise ValueError("requests_per_s needs output_tokens")
        self._check_host_cache()
        if self.arrivals.trace is not None and self.lengths != Lengths():
            raise ValueError("lengths has no effect beside a trace, whose requests have their own")
        if self.requests_per_s is None:
            for key in ("arrivals", "lengths"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} needs requests_per_s, as requests without a rate do not arrive")
        return self

    def _check_host_cache(self) -> None:
        behind = self.host_cache
        if behind is None:
            return
        if behind.hit is None:
            raise ValueError("host_cache.hit is missing: give it, or a trace, as in prefix_cache_hit: {trace: FILE}")
        if self.cached_share >= 1:
            raise ValueError(
                f"host_cache.hit = {behind.hit:g}: with prefix_cache_hit = {self.prefix_cache_hit:g} expected less "
                f"than {1 - self.prefix_cache_hit:g}"
            )
        if behind.tokens < self.cached_prompt_tokens:
            raise ValueError(
                f"host_cache.tokens = {behind.tokens}: expected at least the {self.cached_prompt_tokens:g} tokens of a "
                "prompt that are cached"
            )

    @property
    def held_tokens(self) -> int:
        """KV cache that a sequence reserves: the context, or prompt + output [tokens]."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0)

    @property
    def longest_context_tokens(self) -> int:
        """The most tokens that a sequence reaches: the context, or prompt + output, whichever is more [tokens]."""
        return max(self.context_tokens or 0, (self.prompt_tokens or 0) + (self.output_tokens or 0))

    @property
    def longest_request_tokens(self) -> int:
        """The most tokens of any request: of a trace its longest, of lengths that spread that of 999 in 1,000."""
        trace = self.arrivals.recorded
        if trace is not None:
            return int((trace.prompt_tokens + trace.output_tokens).max())
        of_each = ((self.prompt_tokens, self.lengths.prompt_cv), (self.output_tokens, self.lengths.output_cv))
        longest = sum((mean or 0) * log_normal(cv, NORMAL_P999) for mean, cv in of_each)
        return max(self.longest_context_tokens, int(round_up(longest)))

    @property
    def longest_prompt_tokens(self) -> int:
        """The most tokens of a prompt, what is cached of it included; 0 without prompts."""
        trace = self.arrivals.recorded
        if trace is not None:
            return int(trace.prompt_tokens.max())
        return int(round_up((self.prompt_tokens or 0) * log_normal(self.lengths.prompt_cv, NORMAL_P999)))

    @property
    def is_alike(self) -> bool:
        """Whether all requests are of one length."""
        return self.arrivals.trace is None and not self.lengths.prompt_cv and not self.lengths.output_cv

    def lengths_at(self, share: float, longest_tokens: int) -> tuple[int, int]:
        """The prompt and the answer that a share of the requests do not exceed, each by itself [tokens].

        As `replay.requests` draws them: none of which is longer than `longest_tokens` in all.
        """
        trace = self.arrivals.recorded
        if trace is not None:
            prompts, answers = (
                np.quantile(tokens, share, method="inverted_cdf")
                for tokens in (trace.prompt_tokens, trace.output_tokens)
            )
            return max(1, int(prompts)), max(1, int(answers))
        normal = NormalDist().inv_cdf(share)
        prompt = (self.prompt_tokens or 0) * log_normal(self.lengths.prompt_cv, normal)
        answer = (self.output_tokens or 0) * log_normal(self.lengths.output_cv, normal)
        most = max(1, longest_tokens - 1)
        return max(1, min(round(float(prompt)), most)), max(1, min(round(float(answer)), most))

    @property
    def read_tokens(self) -> float:
        """S, the KV cache that a sequence reads per step: the context, or the mean while decoding, P + G / 2."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0) / 2

    @property
    def host_hit(self) -> float:
        """The share of a prompt whose KV cache is loaded from the memory of the host."""
        return 0.0 if self.host_cache is None else self.host_cache.hit or 0.0

    @property
    def cached_share(self) -> float:
        """The share of a prompt that is in some KV cache already."""
        return self.prefix_cache_hit + self.host_hit

    @property
    def cached_prompt_tokens(self) -> float:
        """Prompt tokens that are already in a KV cache: P · (prefix_cache_hit + host_cache.hit)."""
        return snap((self.prompt_tokens or 0) * self.cached_share)

    @property
    def host_prompt_tokens(self) -> float:
        """Prompt tokens whose KV cache is loaded from the memory of the host: P · host_cache.hit."""
        return snap((self.prompt_tokens or 0) * self.host_hit)

    @property
    def new_prompt_tokens(self) -> float:
        """Prompt tokens that prefill computes: the others."""
        return (self.prompt_tokens or 0) - self.cached_prompt_tokens


NORMAL_P999 = 3.09
"""The standard normal that 1 in 1,000 exceeds."""


def log_normal(cv: float, normal: Array) -> Array:
    """A length that spreads log-normally, as a share of its mean: exp(z · s - s² / 2), s² = ln(1 + cv²)."""
    variance = np.log1p(cv**2)
    share: Array = np.exp(normal * np.sqrt(variance) - variance / 2)
    return share

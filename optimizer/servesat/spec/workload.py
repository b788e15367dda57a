"""The workload of a spec and its service levels."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from servesat.core.tolerances import snap
from servesat.core.validation import Positive, Strict

MAX_TOKENS = 10**9
MAX_TOKENS_PER_S = 1e13
"""An upper bound on demand, small enough to count chips exactly in floats."""

Tokens = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS)]


class Workload(Strict):
    """The tokens of a request: prompt and output, or for decoding alone the context of a sequence."""

    context_tokens: Tokens | None = Field(
        default=None,
        description="KV cache that a sequence holds and reads; default: prompt + output, and their mean.",
    )
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    prefix_cache_hit: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.0
    requests_per_s: Positive | None = None

    @model_validator(mode="after")
    def _context_or_request(self) -> Self:
        both = self.prompt_tokens is not None and self.output_tokens is not None
        either = self.prompt_tokens is not None or self.output_tokens is not None
        if either != both or (not both and self.context_tokens is None):
            raise ValueError("expected context_tokens, or prompt_tokens and output_tokens together")
        if (self.requests_per_s or 0.0) * (self.output_tokens or 0) > MAX_TOKENS_PER_S:
            raise ValueError(
                f"requests_per_s = {self.requests_per_s:g} of {self.output_tokens} tokens: expected at most "
                f"{MAX_TOKENS_PER_S:g} tokens/s"
            )
        if self.prompt_tokens is None:
            for key in ("prefix_cache_hit", "requests_per_s"):
                if getattr(self, key):
                    raise ValueError(f"{key} needs prompt_tokens and output_tokens")
        return self

    @property
    def held_tokens(self) -> int:
        """KV cache that a sequence reserves: the context, or prompt + output [tokens]."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0)

    @property
    def longest_context_tokens(self) -> int:
        """The most tokens that a sequence reaches: the context, or prompt + output, whichever is more [tokens]."""
        return max(self.context_tokens or 0, (self.prompt_tokens or 0) + (self.output_tokens or 0))

    @property
    def read_tokens(self) -> float:
        """S, the KV cache that a sequence reads per step: the context, or the mean while decoding, P + G / 2."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0) / 2

    @property
    def cached_prompt_tokens(self) -> float:
        """Prompt tokens that are already in the KV cache: P · prefix_cache_hit."""
        return snap((self.prompt_tokens or 0) * self.prefix_cache_hit)

    @property
    def new_prompt_tokens(self) -> float:
        """Prompt tokens that prefill computes: P · (1 - prefix_cache_hit)."""
        return (self.prompt_tokens or 0) - self.cached_prompt_tokens


class Slo(Strict):
    """The service levels that a plan must meet; None sets no limit."""

    tpot_ms: Positive | None = Field(default=None, description="Longest mean time per output token [ms].")
    ttft_ms: Positive | None = Field(default=None, description="Longest time to the first token [ms].")
    e2e_ms: Positive | None = Field(default=None, description="Longest time from request to last token [ms].")
    stall_ms: Positive | None = Field(default=None, description="Longest pause between two tokens [ms].")
    min_tokens_per_s: Positive | None = Field(default=None, description="Lowest throughput [tokens/s].")
    margin: Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Share by which predicted times stay below their limits; by default the error of a prediction.",
    )

"""What a spec asks for: the requests that are served, and the service levels that they must have."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from servesat.core.tolerances import snap
from servesat.core.validation import Positive, Strict

MAX_TOKENS = 10**9
MAX_TOKENS_PER_S = 1e13
"""More than all the models of the world put out, and few enough to count chips exactly."""

Tokens = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS)]


class Workload(Strict):
    """What is served: requests of a prompt and an answer, or the KV context of a sequence alone [tokens]."""

    context_tokens: Tokens | None = Field(
        default=None, description="KV cache that a sequence holds and reads; else prompt + output, and their mean."
    )
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    prefix_cache_hit: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.0
    requests_per_s: Positive | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
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
        """KV cache that one sequence reserves: the context, or the whole of prompt and output."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0)

    @property
    def read_tokens(self) -> float:
        """S: KV cache that one sequence reads in a step: the context, or the mean while decoding, P + G / 2."""
        return self.context_tokens or (self.prompt_tokens or 0) + (self.output_tokens or 0) / 2

    @property
    def cached_prompt_tokens(self) -> float:
        """Tokens of the prompt whose KV cache is already there: P · prefix_cache_hit."""
        return snap((self.prompt_tokens or 0) * self.prefix_cache_hit)

    @property
    def new_prompt_tokens(self) -> float:
        """Tokens of the prompt that prefill computes: P · (1 - prefix_cache_hit)."""
        return (self.prompt_tokens or 0) - self.cached_prompt_tokens


class Slo(Strict):
    """The service levels a plan must meet; one left out is no limit."""

    tpot_ms: Positive | None = Field(default=None, description="Longest mean time per output token [ms].")
    ttft_ms: Positive | None = Field(default=None, description="Longest time to the first token [ms].")
    e2e_ms: Positive | None = Field(default=None, description="Longest time from request to last token [ms].")
    stall_ms: Positive | None = Field(default=None, description="Longest pause between two tokens [ms].")
    min_tokens_per_s: Positive | None = Field(default=None, description="Least output of the slice [tokens/s].")

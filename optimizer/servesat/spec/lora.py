"""LoRA adapters in a spec: how many a replica serves at once, and what they take."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from servesat.core.validation import Strict

STEP_FACTOR = 1.2
"""How many times as long steps take with adapters, unless stated.

LLaMA 3.1 8B on a v6e puts out 8 to 24 % less with them (vllm-project/vllm, pull request 15655).
"""


def _whole(value: Any) -> Any:
    """True is no 1, and 16.0 no whole number. Raises ValueError."""
    if isinstance(value, bool | float):
        raise ValueError("expected a whole number")
    return value


class Lora(Strict):
    """LoRA adapters that are served beside the model, each request by one of them or by none."""

    adapters: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(
        description="Adapters that may be in use in one step, for which each replica keeps room; SGLang counts "
        "requests without an adapter as one more adapter."
    )
    rank: Annotated[Literal[1, 8, 16, 32, 64, 128, 256, 320, 512], BeforeValidator(_whole)] = Field(
        default=16, description="The largest rank of them, of those that engines know."
    )
    modules: Literal["all", "attention"] = Field(
        default="all",
        description="What has adapters: `all` matrices, routed experts and tables included, or those of `attention`.",
    )
    step_factor: Annotated[float, Field(strict=True, ge=1, le=10, allow_inf_nan=False)] | None = Field(
        default=None,
        description="How many times as long steps and prompts take with adapters. Of the calibrated cost model; "
        f"absent: {STEP_FACTOR}.",
    )

    @property
    def ranks(self) -> int:
        """The ranks of all adapters together."""
        return self.adapters * self.rank

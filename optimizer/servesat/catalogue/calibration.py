"""Calibrations: what chips reach of their peaks and what engines' hosts cost, fitted to measurements."""

from typing import Annotated

from pydantic import Field

from servesat.catalogue.engine import Program
from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import Dtype, Strict

_Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
_Rows = Annotated[int, Field(strict=True, ge=0)]


class ChipCalibration(Strict):
    """The constants of a chip (docs/cost-model.md, "Calibrated")."""

    weights: _Share = Field(description="e_b, the share of its bandwidth at which weights are loaded.")
    kv_cache: _Share = Field(description="e_k, the share of its bandwidth at which the KV cache is read.")
    flops: _Share = Field(description="e_f, the share of its peak that matmuls reach.")
    link: _Share = Field(description="e_u, the share of its link's bandwidth.")
    launch_s: _Seconds = Field(description="t_0, of a kernel.")
    collective_s: _Seconds = Field(description="a_l, the latency of a collective.")
    rows: _Rows = Field(description="Measurements that it is fitted to; 0: a default.")


class StackCalibration(Strict):
    """The constants of an engine's version, or of a harness that names none."""

    program: Program
    version: str = ""
    harness: str = ""
    step_s: _Seconds = Field(description="a, of a step.")
    sequence_s: _Seconds = Field(description="b, of each sequence of a step.")
    request_s: _Seconds = Field(description="c, of a request before its first token.")
    prompts_first: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        description="q, the share of other prompts that a prompt waits for."
    )
    rows: _Rows

    @property
    def name(self) -> str:
        """What a reader knows it by: `vllm 0.19.0, InferenceMAX`."""
        return ", ".join(part for part in (f"{self.program} {self.version}".strip(), self.harness) if part)


class Calibration(Sourced):
    """Constants of chips and of engines, and what is taken where a chip or an engine has none."""

    chips: dict[Text, ChipCalibration]
    stacks: tuple[StackCalibration, ...]
    dtypes: dict[Dtype, Annotated[float, Field(strict=True, gt=0, le=2)]] = Field(
        default={}, description="u, what matmuls in a dtype reach beside bf16."
    )
    default_chip: ChipCalibration
    default_stack: StackCalibration

    def chip(self, chip: str) -> tuple[ChipCalibration, bool]:
        """The constants of a chip, and whether it is calibrated."""
        found = self.chips.get(chip)
        return (self.default_chip, False) if found is None else (found, True)

    def constants(self, chip: ChipCalibration, compute: str) -> tuple[float, ...]:
        """Those of a chip, with what matmuls reach in a dtype: e_b, e_k, e_f, e_u, t_0 and a_l."""
        reached = {str(dtype): share for dtype, share in self.dtypes.items()}.get(compute, 1.0)
        flops = chip.flops * reached
        return chip.weights, chip.kv_cache, flops, chip.link, chip.launch_s, chip.collective_s

    @staticmethod
    def host(stack: StackCalibration) -> tuple[float, ...]:
        """Those of an engine's version: a, b, c and q."""
        return stack.step_s, stack.sequence_s, stack.request_s, stack.prompts_first

    def stack(self, engine: str, version: str, harness: str) -> tuple[StackCalibration, bool]:
        """The constants of an engine's version, or of the nearest; and whether it is that version.

        Of several harnesses that of the row; a version between two takes the nearer.
        """
        same = [stack for stack in self.stacks if stack.program == engine]
        if not same:
            return self.default_stack, False
        wanted = _version(version)

        def distance(stack: StackCalibration) -> tuple[bool, float, bool]:
            gap = abs(_version(stack.version) - wanted)
            return stack.version != version, gap, stack.harness != harness

        nearest = min(same, key=distance)
        return nearest, nearest.version == version


def _version(text: str) -> float:
    """A version as a number: 0.5.23 is 0.005023; a name without one is 0."""
    parts = [int(part) for part in text.lstrip("v").split(".")[:3] if part.isdigit()]
    return float(sum(part / 1000**place for place, part in enumerate(parts)))

"""Calibrations: what chips reach of their peaks and what engines' hosts cost, fitted to measurements."""

from typing import Annotated

from pydantic import Field

from servesat.catalogue.engine import Engine, Program
from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import Dtype, Strict

FEW_ROWS = 10
"""A version with fewer measurements stands for no other."""

_Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
_Error = Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)]
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


class Errors(Strict):
    """How far predictions are off: half of the measurements that were left out of a fit lie within."""

    tpot: _Error = Field(default=0.0, description="Of the time per output token, as a share of what was predicted.")
    ttft: _Error = Field(default=0.0, description="Of the time to the first token.")


class KindsOfErrors(Strict):
    """The errors of predictions, by what of a deployment was measured."""

    calibrated: Errors = Errors()
    other_version: Errors = Field(default=Errors(), description="Of an engine's version without measurements.")
    other_chip: Errors = Field(default=Errors(), description="Of a chip without measurements.")


class StackCalibration(Strict):
    """The constants of an engine's version, or of a harness that names none."""

    program: Program
    version: str = ""
    harness: str = ""
    step_s: _Seconds = Field(description="a, of a step.")
    sequence_s: _Seconds = Field(description="b, of each sequence of a step.")
    request_s: _Seconds = Field(description="t_r, of a request before its first token.")
    prompts_first: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        description="q, the share of other prompts that a prompt waits for."
    )
    prompt_s: _Seconds = Field(default=0.0, description="t_p, of a prompt in the engine, beside its FLOPs.")
    host_launch_s: _Seconds = Field(
        default=0.0, description="t_h, of the host for a kernel, where no graph launches it: a step takes no less."
    )
    rows: _Rows

    @property
    def constants(self) -> tuple[float, ...]:
        """a, b, t_r, q, t_p and t_h."""
        return (
            self.step_s, self.sequence_s, self.request_s, self.prompts_first, self.prompt_s, self.host_launch_s
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What a reader knows it by: `vllm 0.19.0, InferenceMAX`."""
        return ", ".join(part for part in (f"{self.program} {self.version}".strip(), self.harness) if part)


class Spread(Strict):
    """The quartiles of a constant over the repeats of its measurement."""

    low: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    high: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class MeasuredCard(Strict):
    """The card that `servesat measure` timed, and how far its constants spread."""

    card: Text = Field(description="As its driver names it.")
    driver: Text
    library: Text = Field(description="PyTorch, and its version.")
    cards: Annotated[int, Field(strict=True, ge=1)]
    usable_hbm_bytes: Annotated[int, Field(strict=True, ge=1)]
    model: Text = Field(description="Whose matmuls were timed.")
    spread: dict[Text, Spread] = Field(description="By constant; a dtype's under its name.")


class Calibration(Sourced):
    """Constants of chips and of engines, and what is taken where a chip or an engine has none."""

    chips: dict[Text, ChipCalibration]
    stacks: tuple[StackCalibration, ...]
    dtypes: dict[Dtype, Annotated[float, Field(strict=True, gt=0, le=2)]] = Field(
        default={}, description="u, what matmuls in a dtype reach beside bf16."
    )
    experts: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=1.0, description="u_e, what the matmuls of experts reach beside those of all tokens."
    )
    default_chip: ChipCalibration
    default_stack: StackCalibration
    draft_s: _Seconds = Field(default=0.0, description="Of any engine's host for each token drafted ahead.")
    errors: KindsOfErrors = KindsOfErrors()
    measured: dict[Text, MeasuredCard] = Field(default={}, description="By chip, of those timed by `servesat measure`.")

    def chip(self, chip: str) -> tuple[ChipCalibration, bool]:
        """The constants of a chip, and whether it is calibrated."""
        found = self.chips.get(chip)
        return (self.default_chip, False) if found is None else (found, True)

    def reach_of(self, chip: str, compute: str) -> tuple[float, ...]:
        """What a chip reaches of its peaks with matmuls in a dtype: e_b, e_k, e_f, e_u, t_0, a_l and u_e."""
        found, _ = self.chip(chip)
        reached = {str(dtype): share for dtype, share in self.dtypes.items()}.get(compute, 1.0)
        return (
            found.weights, found.kv_cache, found.flops * reached, found.link, found.launch_s, found.collective_s,
            self.experts,
        )  # fmt: skip

    def host_of(self, engine: Engine | None) -> tuple[float, ...]:
        """What the host of an engine costs, or of none in particular: a, b, t_r, q, t_p, t_h and t_d."""
        found = self.default_stack if engine is None else self.stack(engine.program, engine.version)[0]
        return *found.constants, self.draft_s

    def errors_of(self, chip: str, engine: Engine | None) -> Errors:
        """How far predictions of a chip under an engine are off: as the worse known of the two."""
        _, chip_is_known = self.chip(chip)
        version_is_known = engine is not None and self.stack(engine.program, engine.version)[1]
        kinds = [self.errors.calibrated]
        kinds += [] if chip_is_known else [self.errors.other_chip]
        kinds += [] if version_is_known else [self.errors.other_version]
        return Errors(tpot=max(kind.tpot for kind in kinds), ttft=max(kind.ttft for kind in kinds))

    def stack(self, engine: str, version: str, harness: str = "") -> tuple[StackCalibration, bool]:
        """The constants of an engine's version, or of the nearest; and whether it is that version.

        Of several harnesses that of the row; a version between two takes the nearer, but for those of few measurements,
        which say more of a chip than of an engine. Where no version is named, the harness stands for it, or else the
        version with most measurements does.
        """
        same = [stack for stack in self.stacks if stack.program == engine]
        if not same:
            return self.default_stack, False
        exact = [stack for stack in same if stack.version == version and (version or stack.harness == harness)]
        if exact:
            return min(exact, key=lambda stack: stack.harness != harness), True
        named = [stack for stack in same if stack.version and stack.rows >= FEW_ROWS] or same
        if not version:
            return max(named, key=lambda stack: stack.rows), False
        wanted = _version(version)
        return min(named, key=lambda stack: abs(_version(stack.version) - wanted)), False


def _version(text: str) -> float:
    """A version as a number: 0.5.23 is 0.005023; a name without one is 0."""
    parts = [int(part) for part in text.lstrip("v").split(".")[:3] if part.isdigit()]
    return float(sum(part / 1000**place for place, part in enumerate(parts)))

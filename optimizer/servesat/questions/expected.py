"""What to expect of a plan in practice: the calibrated cost model beside the ideal one that chose it."""

from servesat.catalogue.chip import chips_in
from servesat.catalogue.load import load_calibration
from servesat.core.plan import KvLayout, Mode, Plan
from servesat.core.result import Expected
from servesat.cost_model.calibrated import (
    ChipConstants,
    Placed,
    StackConstants,
    closed_loop_s,
    step_s,
    work_of,
)
from servesat.spec.spec import Spec


def expected(spec: Spec, plan: Plan) -> Expected | None:
    """What a plan's replicas take at their batch, by the catalogue's calibration.

    None without an engine, as nothing starts such a plan, and of plans with two pools. Without prompts the time per
    output token is that of a step.
    """
    if plan.engine is None or plan.mode is Mode.DISAGGREGATED:
        return None
    calibration, engine = load_calibration(), spec.engine_of(plan.engine)
    of_chip, chip_known = calibration.chip(plan.chip)
    of_stack, stack_known = calibration.stack(engine.program, engine.version, "")
    constants = calibration.constants(of_chip, plan.compute)
    chip, stack = ChipConstants(*constants), StackConstants(*calibration.host(of_stack))
    workload = spec.workload
    output = float(workload.output_tokens or 0)
    placed = Placed(
        tp=plan.tp,
        groups=plan.ep,
        weights=plan.weights,
        kv_cache=plan.kv_cache,
        compute=plan.compute,
        kv_copies=plan.tp / spec.model.kv_heads if plan.kv_layout is KvLayout.COPIES else 1.0,
    )
    work = work_of(
        spec.model,
        next(one for one in spec.chips if one.id == plan.chip),
        placed,
        batch=float(plan.batch),
        prompt_tokens=workload.new_prompt_tokens,
        output_tokens=2 * (workload.read_tokens - workload.new_prompt_tokens),
    )
    if plan.mode is Mode.DECODE_ONLY:
        ttft, tpot = None, float(step_s(work, chip, stack, float(plan.batch)))
    else:
        ttft, tpot = (float(value) for value in closed_loop_s(work, chip, stack, float(plan.batch), output))
    whole = tpot if ttft is None else (ttft + (output - 1) * tpot) / output
    replicas = plan.slices * chips_in(plan.topology) / (plan.tp * plan.ep)
    return Expected(
        tpot_ms=tpot * 1e3,
        ttft_ms=None if ttft is None else ttft * 1e3,
        tokens_per_s=replicas * plan.batch / whole,
        chip_is_calibrated=chip_known,
        stack=of_stack.name,
        stack_is_calibrated=stack_known,
    )

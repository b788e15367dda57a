"""What to expect of a plan in practice: the calibrated cost model beside the ideal one that chose it."""

from servesat.candidates.replicas import replica_of
from servesat.catalogue.chip import chips_in
from servesat.catalogue.load import load_calibration
from servesat.core.plan import Mode, Plan
from servesat.core.result import Expected
from servesat.cost_model.calibrated import Constants, Request, closed_loop_s, step_curve, work_of
from servesat.spec.spec import Spec


def expected(spec: Spec, plan: Plan) -> Expected | None:
    """What a plan's replicas take at their batch, by the catalogue's calibration.

    None without an engine, as nothing starts such a plan, of plans with two pools or a cache in the memory of hosts,
    and of those that are calibrated themselves. Without prompts the time per output token is that of a step, over the
    tokens accepted in it.
    """
    is_beyond = plan.mode is Mode.DISAGGREGATED or spec.workload.host_cache is not None
    if plan.engine is None or is_beyond or spec.calibration is not None:
        return None
    calibration, engine = load_calibration(), spec.engine_of(plan.engine)
    _, chip_known = calibration.chip(plan.chip)
    of_stack, stack_known = calibration.stack(engine.program, engine.version)
    constants = Constants(*calibration.reach_of(plan.chip, plan.compute), *of_stack.constants).slowed(spec.step_factor)
    workload, batch = spec.workload, float(plan.batch)
    output = float(workload.output_tokens or 0)
    chip = next(one for one in spec.chips if one.id == plan.chip)
    request = Request(workload.cached_prompt_tokens, workload.new_prompt_tokens, workload.read_tokens)
    work = work_of(spec.model, replica_of(spec, chip, plan), request)
    if plan.mode is Mode.DECODE_ONLY:
        ttft, tpot = None, float(step_curve(work, constants).at(batch)) / plan.accepted_tokens
    else:
        ttft, tpot = (float(value) for value in closed_loop_s(work, constants, batch, output))
    whole = tpot if ttft is None else (ttft + (output - 1) * tpot) / output
    replicas = plan.slices * chips_in(plan.topology) / (plan.tp * plan.ep * plan.pp)
    return Expected(
        tpot_ms=tpot * 1e3,
        ttft_ms=None if ttft is None else ttft * 1e3,
        tokens_per_s=replicas * plan.batch / whole,
        chip_is_calibrated=chip_known,
        stack=of_stack.name,
        stack_is_calibrated=stack_known,
    )

"""What the times of a plan rest on: the measurements behind them, and how far such predictions are off."""

from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.core.result import Basis
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.spec.spec import Spec


def basis(spec: Spec, plan: Plan, settings: Settings) -> Basis | None:
    """The basis of a plan under the calibrated cost model, and the best plan on calibrated chips beside it."""
    calibration = spec.calibration
    if calibration is None:
        return None
    engine = spec.engine_of(plan.engine) if plan.engine else None
    _, chip_is_known = calibration.chip(plan.chip)
    stack, stack_is_known = calibration.default_stack, False
    if engine is not None:
        stack, stack_is_known = calibration.stack(engine.program, engine.version)
    errors = spec.errors_of(plan.chip, plan.engine)
    return Basis(
        calibration=calibration.name,
        chip_is_calibrated=chip_is_known,
        stack=stack.name,
        stack_is_calibrated=stack_is_known,
        tpot_error=errors.tpot,
        ttft_error=errors.ttft,
        best_calibrated=None if chip_is_known else _best_calibrated(spec, settings),
    )


def _best_calibrated(spec: Spec, settings: Settings) -> Plan | None:
    """The best plan on the chips of the search that measurements are known of; None where there is none."""
    known = [chip.id for chip in spec.chips if spec.calibration is not None and spec.calibration.chip(chip.id)[1]]
    if not known:
        return None
    kept = {chip: topologies for chip, topologies in spec.search.topologies.items() if chip in known}
    try:
        return cheapest_plan(spec.changed({"search.chips": known, "search.topologies": kept}), settings)
    except SpecError:  # then they lack a dtype or a mode that the spec lists
        return None

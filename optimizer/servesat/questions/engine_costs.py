"""What an engine costs: the best plan under each of the others, and without one."""

from servesat.catalogue.engine import Engine
from servesat.catalogue.load import engine_ids, load_engine
from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.core.result import EngineCost
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.spec.engines import NONE
from servesat.spec.spec import Spec


def _plan_under(engine: Engine, spec: Spec, settings: Settings) -> Plan | None:
    """The best plan under an engine; None, too, where it cannot do what the spec asks for, such as LoRA adapters."""
    try:
        under_engine = spec.changed({"engine": engine})
    except SpecError:
        return None
    return cheapest_plan(under_engine, settings)


def engine_costs(spec: Spec, plan: Plan | None, settings: Settings) -> tuple[EngineCost, ...]:
    """The best plan of a spec under each engine of the spec and the catalogue but the plan's own, then under none.

    Engines that run on none of its chips are left out. Empty where the spec asks for no engine, or has no plan.
    """
    if plan is None or plan.engine is None:
        return ()
    engines = {engine.id: engine for engine in (*spec.engine, *map(load_engine, engine_ids()))}
    others = [
        engine
        for engine in engines.values()
        if engine.id != plan.engine and any(engine.support_of(chip.id) is not None for chip in spec.chips)
    ]
    found = [EngineCost(engine=engine.name, plan=_plan_under(engine, spec, settings)) for engine in others]
    return (*found, EngineCost(engine=NONE, plan=cheapest_plan(spec.without_engines(), settings)))

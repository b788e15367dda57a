"""Many specs that differ little, solved one after another."""

from servesat.candidates.serving_modes import SharedLayouts
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec


class SolvedAlike:
    """The answers to specs that share their layouts wherever chips, slices and dtypes of the search are the same."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contenders, self._every = SharedLayouts(undominated=True), SharedLayouts()

    def answer(self, spec: Spec) -> Result:
        """Solve among the layouts that may be best; where these have no plan, among all, which tell what conflicts."""
        if spec.percentile is not None:  # the search by replays chooses its own layouts
            return solve(spec, self._settings)
        result = solve(spec, self._settings, layouts=self._contenders.of(spec))
        return solve(spec, self._settings, layouts=self._every.of(spec)) if result.plan is None else result

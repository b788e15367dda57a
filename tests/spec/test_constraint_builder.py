from fractions import Fraction

import numpy as np
import pytest

from servesat import SpecError
from servesat.deployment.solve import solve
from servesat.spec.constraint_builder import ConstraintBuilder, built
from tests.helpers import spec_of


def test_python_writes_what_a_spec_would_state() -> None:
    def constrain(m: ConstraintBuilder) -> None:
        m.add(m.batch % 8 == 0)
        m.add((m.chip == "h200").implies(m.tp <= 4) & ~(m.prefill.chip == m.chip))
        m.add(m.chip.isin(["h200", "tpu-v5e"]) | (2 * m.tpot_ms - 1 < m.key("slo.tpot_ms")))
        m.add(-m.batch / Fraction(1, 2) <= -40)
        m.add((m.batch == np.int64(5)) | (m.kv_replicated == np.True_))

    assert built(constrain) == (
        "(batch % 8) == 0",
        "((chip == 'h200') implies (tp <= 4)) and (not (prefill.chip == chip))",
        "(chip in ['h200', 'tpu-v5e']) or (((2 * tpot_ms) - 1) < slo.tpot_ms)",
        "((0 - batch) / (1/2)) <= -40",
        "(batch == 5) or ((kv_replicated) == true)",
    )


def test_constraints_from_python_hold() -> None:
    free = solve(spec_of()).plan
    held = solve(spec_of(), constrain=lambda m: m.add(m.batch % 16 == 1)).plan
    assert free is not None
    assert held is not None
    assert (free.batch % 16, held.batch % 16) == (10, 1)


def test_what_python_cannot_mean_is_an_error() -> None:
    with pytest.raises(SpecError, match="a plan has no batchh; did you mean 'batch'"):
        built(lambda m: m.add(m.batchh == 1))
    with pytest.raises(SpecError, match="expected a comparison of m's names"):
        built(lambda m: m.add(True))
    with pytest.raises(SpecError, match=r"constrain returned \(batch == 1\), which is not added"):
        built(lambda m: m.batch == 1)
    with pytest.raises(SpecError, match=r"\[1\] cannot be part of a constraint"):
        built(lambda m: m.add(m.batch == [1]))
    with pytest.raises(SpecError, match="neither true nor false"):
        built(lambda m: m.add(m.batch == 1 and m.tp == 1))

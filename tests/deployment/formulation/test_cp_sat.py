import subprocess
import sys

import pytest

FIRST_SERVESAT = """
import sys
from servesat.deployment.formulation.cp_sat import cp_model
assert "pandas" not in sys.modules
import pandas
"""
FIRST_PANDAS = """
import sys
import pandas
from servesat.deployment.formulation.cp_sat import cp_model
"""
SERIES = """
assert sys.modules["pandas"] is pandas and cp_model.pd.Series is pandas.Series
model = cp_model.CpModel()
chosen = model.new_int_var_series("chosen", pandas.Index(["a", "b"]), 0, 3)
model.add(chosen["a"] + chosen["b"] >= 5)
model.minimize(chosen["a"])
solver = cp_model.CpSolver()
solver.solve(model)
values = solver.values(chosen)
assert isinstance(values, pandas.Series)
print(values.to_dict())
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", [FIRST_SERVESAT, FIRST_PANDAS])
def test_series_work_whichever_is_imported_first(first: str) -> None:
    shown = subprocess.run([sys.executable, "-c", first + SERIES], capture_output=True, text=True, check=True)
    assert shown.stdout == "{'a': 2, 'b': 3}\n"

"""The package as `import servesat` gives it: lazy, complete, and with functions where packages have the same name."""

import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import servesat

FUNCTIONS = (
    "solve", "frontier", "what_if", "fleet", "batch", "portfolio", "why", "modes", "rank", "launch", "replay",
    "accuracy", "models", "chips", "prices", "engines", "breakpoints", "robustness",
)  # fmt: skip


def test_every_name_is_there_and_every_question_is_explained() -> None:
    for name in servesat.__all__:
        assert getattr(servesat, name) is not None
    assert {name for name in dir(servesat) if inspect.isfunction(getattr(servesat, name))} == set(FUNCTIONS)
    for name in FUNCTIONS:
        function = getattr(servesat, name)
        assert inspect.getdoc(function)
        assert all(one.annotation is not one.empty for one in inspect.signature(function).parameters.values())
    assert servesat.__version__ == version("servesat")
    with pytest.raises(AttributeError, match="module 'servesat' has no attribute 'answer'"):
        _ = servesat.answer  # type: ignore[attr-defined]


def test_a_package_inside_does_not_hide_the_function_of_its_name() -> None:
    for name in ("fleet", "launch", "replay"):
        inside = import_module(f"servesat.{name}")
        assert inspect.ismodule(inside)
        assert inspect.isfunction(getattr(servesat, name))


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("import servesat; servesat.__version__; dir(servesat)", ["ortools", "numpy", "pandas", "pydantic", "rich"]),
        ("import servesat; servesat.chips().to_dict; str(servesat.chips())", ["ortools", "pandas", "matplotlib"]),
        ("import servesat; servesat.Spec(model='llama-3-8b', workload={'context_tokens': 9})", ["ortools", "pandas"]),
        ("import servesat; servesat.solve", ["matplotlib", "plotly"]),
    ],
)
def test_nothing_is_imported_before_it_is_needed(code: str, unneeded: list[str]) -> None:
    probe = f"{code}\nimport sys\nprint([name for name in {unneeded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

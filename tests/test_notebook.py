"""docs/notebook.ipynb runs, and shows what is stored in it."""

import copy
import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def shown(output: Any) -> str:
    """The text of an output, without how long it took, and without notes, as those on old prices come with time."""
    text = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return re.sub(r" \(\d+\.\d+ s\)", "", text.partition("\nnote: ")[0])


@pytest.mark.slow
def test_the_notebook_shows_what_it_stores() -> None:
    stored: Any = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    run = copy.deepcopy(stored)
    NotebookClient(run, timeout=600, kernel_name="python3").execute()
    code = [(cell, fresh) for cell, fresh in zip(stored.cells, run.cells, strict=True) if cell.cell_type == "code"]
    assert all(cell.execution_count == number for number, (cell, _) in enumerate(code, start=1))
    for cell, fresh in code:
        assert [shown(output) for output in fresh.outputs] == [shown(output) for output in cell.outputs]
        assert [sorted(one.get("data", ())) for one in fresh.outputs] == [
            sorted(one.get("data", ())) for one in cell.outputs
        ]

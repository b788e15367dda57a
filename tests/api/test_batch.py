import pytest

import servesat
from servesat import ServesatError
from tests.cli.commands import EXAMPLE


def test_a_batch_takes_a_name_or_several() -> None:
    assert servesat.batch(EXAMPLE).rows[0]["status"] == "optimal"
    assert len(servesat.batch([]).to_pandas()) == 0
    with pytest.raises(ServesatError, match="'none-such' names no spec"):
        servesat.batch([EXAMPLE, "none-such"])
    with pytest.raises(ServesatError, match="workers = 0: expected a whole number of at least 1"):
        servesat.batch(EXAMPLE, workers=0)
    with pytest.raises(ServesatError, match="workers = '2': expected a whole number of at least 1"):
        servesat.batch(EXAMPLE, workers="2")  # type: ignore[arg-type]
    with pytest.raises(ServesatError, match="specs = 3: expected the path of a spec"):
        servesat.batch(3)  # type: ignore[arg-type]

from servesat.catalogue.load import model_ids
from servesat.catalogue.recovery import published


def test_the_table_is_of_known_models_and_sourced() -> None:
    table = published()
    entries = [*table.weights, *table.kv_cache]
    assert {name for one in entries for name in one.models} <= {*model_ids(), "*"}
    assert all(0.6 <= one.recovery <= 1.03 and one.source and one.suite for one in entries)
    assert table.checked is not None

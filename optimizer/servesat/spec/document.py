"""A spec as one would write it: what the catalogue has by its id, the rest in full."""

from collections.abc import Callable
from typing import Any

from servesat.catalogue.load import load_calibration, load_chip, load_engine, load_model, load_price_book
from servesat.catalogue.record import Sourced
from servesat.core.errors import CatalogueError
from servesat.spec.engines import NONE
from servesat.spec.keys import CALIBRATED, IDEAL
from servesat.spec.spec import Spec


def spec_document(spec: Spec) -> dict[str, Any]:
    """What of a spec is not by default, as a mapping that `Spec.load` reads back to the same spec from any folder."""
    document = spec.model_dump(mode="json", exclude_defaults=True)
    document |= {"model": _named(spec.model, load_model), "workload": document["workload"]}
    if spec.workload.arrivals.file is not None:
        document["workload"]["arrivals"]["trace"] = str(spec.workload.arrivals.file)
    if spec.calibration is None:
        document["cost_model"] = IDEAL
    else:
        known = _named(spec.calibration, load_calibration)
        document["cost_model"] = CALIBRATED if isinstance(known, str) else known
    of_market = {
        "price_book": _named(spec.price_book, load_price_book),
        "buy": spec.buy,
        "engine": [_named(engine, load_engine) for engine in spec.engine] or NONE,
        "utilisation": spec.utilisation,
    }
    usual = Spec.load({key: getattr(spec, key) for key in ("model", "cost_model")} | {"workload": dict(spec.workload)})
    stated = {key: value for key, value in of_market.items() if getattr(spec, key) != getattr(usual, key)}
    document = {key: value for key, value in document.items() if key not in of_market} | stated
    if spec.search.chips is not None:
        document.setdefault("search", {})["chips"] = [_named(chip, load_chip) for chip in spec.search.chips]
    return document


def _named(record: Sourced, load: Callable[[str], Sourced]) -> Any:
    """The id of a record that the catalogue has, or else the record."""
    try:
        if load(record.id) == record:
            return record.id
    except CatalogueError:
        pass
    return record.model_dump(mode="json", exclude_defaults=True)

"""A mixture of experts in groups, small enough to count by hand."""

from typing import Any

from servesat.catalogue.chip import Chip
from servesat.catalogue.model import ModelSpec
from servesat.core.plan import KvLayout
from servesat.deployment.check.replica import CheckedReplica
from tests.helpers import moe_model

CHIP = Chip.model_validate(
    {
        "name": "grid", "vendor": "test", "hbm_bytes": 1e9, "hbm_bytes_per_s": 1e12, "flop_per_s": {"bf16": 1e12},
        "axes": [{"name": "x", "bytes_per_s": 1e9}, {"name": "y", "bytes_per_s": 1e9}], "topologies": ["2x4"],
    }
)  # fmt: skip
OF_EXPERTS = 3 * 8 * 3 * 256 * 512
OTHERS = 4 * 2 * 256 * 32 * (8 + 4) + 3 * 256 * 1024 + 3 * (3 * 256 * 256 + 256 * 8) + 2 * 256 * 1000
TABLES = 2 * 256 * 1000 + 3 * 256 * 8  # embedding, head and routers, of the others


def replica(model: ModelSpec | None = None, **keys: Any) -> CheckedReplica:
    """Two chips share each matrix, over axis 0; four groups share eight experts, over axis 1."""
    return CheckedReplica(
        **{
            "model": model or moe_model(), "chip": CHIP, "topology": "2x4", "tp_axes": (0,), "ep_axes": (1,),
            "pp_axes": (), "kv_layout": KvLayout.BATCH, "weights": "bf16", "kv_cache": "int8", "compute": "bf16",
            "int4_group": None,
            "exact_wraparound": False, "pays_ici": True, "usable_bytes": 1e9,
        } | keys
    )  # fmt: skip

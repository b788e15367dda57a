"""Dtypes: what a value takes in each, and what the weights of a model therefore take (docs/cost-model.md, "Memory")."""

from dataclasses import dataclass

from servesat.catalogue.model import ModelSpec

BYTES_PER_VALUE = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8}
"""Storage of one value by dtype [bytes].

The scales that belong to a format count: 8 bits for 32 values of MXFP4, 8 bits for 16 of NVFP4 (OCP Microscaling
Formats 1.0; NVIDIA). Those of `int4` depend on how it is grouped, see `value_bytes`.
"""

BITS = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "mxfp4": 4, "nvfp4": 4}
"""Width of one value by dtype, without scales: what `dtypes` compares [bits]."""

GROUP_SCALE_BITS = 32
"""What a group of int4 weights holds in addition to its values: a scale and a zero point of 16 bits each."""


def value_bytes(dtype: str, int4_group: int | None = None) -> float:
    """Storage of one weight: bits / 8, and for grouped int4 32 / 8 / group more [bytes].

    With groups of 128, int4 takes 4 + 32 / 128 = 4.25 bits.
    """
    scales = GROUP_SCALE_BITS / 8 / int4_group if dtype == "int4" and int4_group is not None else 0.0
    return BYTES_PER_VALUE[dtype] + scales


@dataclass(frozen=True)
class Precision:
    """What the weights of a model take in the dtypes that a search may choose, and what may compute with them.

    A model may be published with only its routed experts in a narrow dtype; in that dtype all other weights, the
    resident ones, stay bf16.
    """

    model: ModelSpec
    int4_group: int | None = None

    def expert_value_bytes(self, weights: str) -> float:
        """b_e: storage of one weight of a routed expert; of a model without experts, of any weight [bytes]."""
        return value_bytes(weights, self.int4_group)

    def resident_value_bytes(self, weights: str) -> float:
        """b_w: storage of one weight that is not a routed expert's [bytes]."""
        return value_bytes(self._resident_dtype(weights), self.int4_group)

    def fits_compute(self, weights: str, compute: str) -> bool:
        """Whether the weights are no wider than the dtype of the matmuls (requirement `dtypes`)."""
        return BITS[self._resident_dtype(weights)] <= BITS[compute]

    def _resident_dtype(self, weights: str) -> str:
        native = self.model.native
        return "bf16" if native is not None and native.experts_only and native.dtype == weights else weights

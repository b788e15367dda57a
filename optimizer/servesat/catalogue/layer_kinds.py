"""Kinds of layers of a hybrid model, as fields of a model file.

Formulas are those of docs/cost-model.md, "Memory". Recurrent states are fp32, as publishers ask for where they say;
the last inputs of a convolution are bf16.
"""

from typing import Any

Fields = dict[str, Any]
"""Fields of a model file."""


STATE_BYTES, CONVOLUTION_BYTES = 4, 2


def other_layers(*kinds: Fields) -> Fields:
    """The kinds of layers that the model has."""
    return {"other_layers": [kind for kind in kinds if kind["layers"]]}

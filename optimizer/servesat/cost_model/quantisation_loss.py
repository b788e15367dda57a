"""What quantisation costs in accuracy, from published recoveries of models and dtypes."""

from servesat.catalogue.model import BITS, ModelSpec
from servesat.catalogue.recovery import published


def quality_loss(model: ModelSpec, weights: str, kv_cache: str, compute: str) -> float | None:
    """The share of its score that a model loses: 1 - recovery of weights · recovery of the KV cache; None if unknown.

    What is published in bf16, or natively in a dtype, loses nothing in it, computing in that or in bf16. Matmuls in a
    wider dtype than the one measured lose no more. A recovery above 1 is noise, and counts as 1.
    """
    recoveries = (_of_weights(model, weights, compute), _of_kv_cache(model.id, kv_cache))
    if None in recoveries:
        return None
    retained = 1.0
    for recovery in recoveries:
        retained *= min(recovery or 1.0, 1.0)
    return 1.0 - retained


def quality_notes(
    model: ModelSpec, weights: tuple[str, ...], kv_cache: tuple[str, ...], compute: tuple[str, ...]
) -> list[str]:
    """What a limit on the loss excludes for lack of a published figure, and where other models' figures stand in."""
    unknown = [f"{what} weights" for dtype in weights for what in _unknown_weights(model, dtype, compute)]
    unknown += [f"a KV cache of {dtype}" for dtype in kv_cache if _of_kv_cache(model.id, dtype) is None]
    of_model = {row.kv_cache for row in published().kv_cache if model.id in row.models}
    borrowed = [
        dtype for dtype in kv_cache if dtype not in {"bf16", *of_model} and _of_kv_cache(model.id, dtype) is not None
    ]
    no_accuracy = f"no accuracy of {model.id} with"
    return [f"{no_accuracy} {what} is known, so max_quality_loss excludes it" for what in unknown] + [
        f"{no_accuracy} a KV cache of {dtype} is known; that of other models stands in" for dtype in borrowed
    ]


def _unknown_weights(model: ModelSpec, weights: str, compute: tuple[str, ...]) -> list[str]:
    """The dtype of weights if no recovery of it is known, or with each compute dtype for which none is."""
    wide_enough = [dtype for dtype in compute if BITS[weights] <= BITS[dtype]]
    missing = [dtype for dtype in wide_enough if _of_weights(model, weights, dtype) is None]
    if missing == wide_enough:
        return [weights] if missing else []
    return [f"{weights} (computing in {dtype})" for dtype in missing]


def _of_weights(model: ModelSpec, weights: str, compute: str) -> float | None:
    native = model.native.dtype if model.native else "bf16"
    if (weights in ("bf16", native) and compute == "bf16") or weights == compute == native:
        return 1.0
    rows = [row for row in published().weights if model.id in row.models and row.weights == weights]
    recoveries = [row.recovery for row in rows if row.compute == compute or BITS[row.compute] < BITS[compute]]
    return max(recoveries, default=None)


def _of_kv_cache(model_id: str, kv_cache: str) -> float | None:
    """The recovery of a KV cache dtype: of this model, else of the method in general (`*`); None if unknown."""
    if kv_cache == "bf16":
        return 1.0
    rows = [row for row in published().kv_cache if row.kv_cache == kv_cache]
    of_model = [row.recovery for row in rows if model_id in row.models]
    return max(of_model or [row.recovery for row in rows if "*" in row.models], default=None)

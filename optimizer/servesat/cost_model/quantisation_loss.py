"""What quantisation costs in accuracy, from published recoveries of models and dtypes."""

from servesat.catalogue.model import ModelSpec
from servesat.catalogue.recovery import published
from servesat.cost_model.precision import BITS


def quality_loss(model: ModelSpec, weights: str, kv_cache: str, compute: str) -> float | None:
    """The share of its score that a model loses: 1 - recovery of weights · recovery of the KV cache; None if unknown.

    What is published in bf16, or natively in a dtype, loses nothing in it, computing in that or in bf16. Matmuls in a
    wider dtype than the one measured lose no more. A recovery above 1 is noise, and counts as 1.
    """
    recoveries = (_of_weights(model, weights, compute), _of_kv_cache(model.id, kv_cache))
    if None in recoveries:
        return None
    kept = 1.0
    for recovery in recoveries:
        kept *= min(recovery or 1.0, 1.0)
    return 1.0 - kept


def quality_notes(
    model: ModelSpec, weights: tuple[str, ...], kv_cache: tuple[str, ...], compute: tuple[str, ...]
) -> list[str]:
    """What a limit on the loss excludes because nobody knows it, and where figures of other models stand in."""
    unknown = [f"{what} weights" for dtype in weights for what in _unknown_weights(model, dtype, compute)]
    unknown += [f"a KV cache of {dtype}" for dtype in kv_cache if _of_kv_cache(model.id, dtype) is None]
    own = {one.kv_cache for one in published().kv_cache if model.id in one.models}
    borrowed = [
        dtype for dtype in kv_cache if dtype not in {"bf16", *own} and _of_kv_cache(model.id, dtype) is not None
    ]
    no_accuracy = f"no accuracy of {model.id} with"
    return [f"{no_accuracy} {what} is known, so max_quality_loss excludes it" for what in unknown] + [
        f"{no_accuracy} a KV cache of {dtype} is known; that of other models stands in" for dtype in borrowed
    ]


def _unknown_weights(model: ModelSpec, weights: str, compute: tuple[str, ...]) -> list[str]:
    """A dtype of weights of which no recovery is known, in any of the dtypes that could compute in it or in some."""
    fitting = [one for one in compute if BITS[weights] <= BITS[one]]
    missing = [one for one in fitting if _of_weights(model, weights, one) is None]
    if missing == fitting:
        return [weights] if missing else []
    return [f"{weights} (computing in {one})" for one in missing]


def _of_weights(model: ModelSpec, weights: str, compute: str) -> float | None:
    native = model.native.dtype if model.native else "bf16"
    if (weights in ("bf16", native) and compute == "bf16") or weights == compute == native:
        return 1.0
    known = [one for one in published().weights if model.id in one.models and one.weights == weights]
    as_narrow = [one.recovery for one in known if one.compute == compute or BITS[one.compute] < BITS[compute]]
    return max(as_narrow, default=None)


def _of_kv_cache(model_id: str, kv_cache: str) -> float | None:
    if kv_cache == "bf16":
        return 1.0
    known = [one for one in published().kv_cache if one.kv_cache == kv_cache]
    own = [one.recovery for one in known if model_id in one.models]
    return max(own or [one.recovery for one in known if "*" in one.models], default=None)

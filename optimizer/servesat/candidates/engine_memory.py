"""What the engine of each layout takes of its memory beside weights and KV cache (docs/cost-model.md)."""

import numpy as np

from servesat.candidates.layouts import MODES, Layouts
from servesat.catalogue.engine import UNPLANNED_CHUNK
from servesat.core.arrays import Array, Floats
from servesat.core.plan import Mode
from servesat.cost_model.memory import ActivationFactors, peak_activations_bytes
from servesat.spec.spec import Spec


def runtime_bytes(spec: Spec, layouts: Layouts) -> Floats:
    """Of all chips of a replica: the driver's context, collectives and captured graphs; shape [layouts] [bytes]."""
    memory = [spec.engine_of(choice.engine).memory for choice in layouts.dtypes]
    alone = np.array([each.runtime_bytes + each.graphs_bytes for each in memory])[layouts.dtype]
    collectives = np.array([each.collectives_bytes for each in memory])[layouts.dtype]
    chips = layouts.replica.chips
    return np.asarray(chips * (alone + np.where(chips > 1, collectives, 0.0)))


def activation_terms_bytes(spec: Spec, layouts: Layouts, batch: Array, prompt_tokens: Array) -> tuple[Floats, Floats]:
    """Activations of all chips of a replica, each as in `peak_activations_bytes`; shape [layouts] [bytes].

    0 for engines that keep them elsewhere. Micro-batches and the groups that experts are spread over share the batch,
    and `prompt_tokens` are those of a step in each. A sequence has as many tokens in a step as it verifies.
    """
    each = [spec.engine_of(choice.engine).memory.activations for choice in layouts.dtypes]
    factors = [(0.0, 0.0, 0.0) if one is None else (*one.width_factors, one.logits_factor) for one in each]
    counted = np.array([one is not None for one in each], dtype=np.float64)[layouts.dtype]
    rows = np.array(factors)[layouts.dtype]
    replica = layouts.replica
    sequences = batch * replica.drafting.verified / (replica.ep * replica.pp)
    terms = peak_activations_bytes(
        spec.model, replica.tp, sequences + prompt_tokens, sequences, ActivationFactors(*rows.T)
    )
    within_layer, sampling = (np.asarray(replica.chips * counted * term) for term in terms)
    return within_layer, sampling


def engine_bytes(spec: Spec, layouts: Layouts, batch: Array) -> Floats:
    """Runtime and activations of a replica at a batch; 0 without engines; shape [layouts] [bytes]."""
    if not spec.engine:
        return np.zeros(len(layouts))
    return _held(spec, layouts, batch, step_prompt_tokens(spec, layouts))


def prefill_engine_bytes(spec: Spec, layouts: Layouts) -> Floats:
    """Runtime and activations of a replica that prefills one prompt after another; 0 without engines [bytes]."""
    if not spec.engine:
        return np.zeros(len(layouts))
    prompt_tokens = np.full(len(layouts), float(spec.workload.new_prompt_tokens))
    return _held(spec, layouts, np.zeros(len(layouts)), prompt_tokens)


def _held(spec: Spec, layouts: Layouts, batch: Array, prompt_tokens: Array) -> Floats:
    within_layer, sampling = activation_terms_bytes(spec, layouts, batch, prompt_tokens)
    return runtime_bytes(spec, layouts) + np.maximum(within_layer, sampling)


def step_prompt_tokens(spec: Spec, layouts: Layouts) -> Floats:
    """Prompt tokens that the largest step takes in a group: its share of a chunk, or a prompt that is taken whole.

    UNPLANNED_CHUNK where decoding alone is planned.
    """
    serving = layouts.serving
    shared_by = layouts.replica.ep * layouts.replica.pp
    whole = serving.prefill_s_per_output_token > 0
    planned = np.where(whole, spec.workload.new_prompt_tokens, serving.chunk_tokens_per_step / shared_by)
    return np.where(serving.mode == MODES.index(Mode.DECODE_ONLY), UNPLANNED_CHUNK, planned)

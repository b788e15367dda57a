"""The times of a spec's layouts: a decode step as a function of the batch, and the prefill of one prompt."""

import numpy as np

from servesat.candidates.layouts import Layouts
from servesat.core.arrays import Floats
from servesat.cost_model.decode import decode_step, layers_ici_s, load_parts_s
from servesat.cost_model.memory import not_visited
from servesat.cost_model.prefill import prompt_s
from servesat.cost_model.step_curve import AffineTime, StepTime, WeightLoadTime
from servesat.spec.spec import Spec


def step_time_curve(spec: Spec, layouts: Layouts) -> StepTime:
    """The time per output token of each layout, as a function of the batch."""
    model, serving, pay_ici = spec.model, layouts.serving, spec.ici == "pay"
    chunk_tokens = serving.chunk_tokens_per_step
    alone = decode_step(model, spec.workload.read_tokens, layouts.replica, np.ones(len(layouts)), pay_ici=pay_ici)
    chunk_ici_s = layers_ici_s(model, layouts.replica, chunk_tokens) if pay_ici else 0.0 * alone.ici_s
    return StepTime(
        load=WeightLoadTime(*load_parts_s(layouts.replica), not_visited(model), chunk_tokens),
        flops=AffineTime(serving.chunk_s_per_step, alone.flops_s),
        ici=AffineTime(chunk_ici_s, alone.ici_s),
        kv_s=alone.kv_cache_s + alone.kv_exchange_s + serving.prefill_s_per_output_token,
    )


def prefill_s_of(spec: Spec, layouts: Layouts) -> Floats:
    """The time to prefill one prompt on a replica of each layout; shape [layouts] [s]."""
    workload = spec.workload
    return np.asarray(
        prompt_s(
            spec.model,
            workload.cached_prompt_tokens,
            workload.new_prompt_tokens,
            layouts.replica,
            mfu=spec.prefill_mfu,
            pay_ici=spec.ici == "pay",
        )
    )

"""What drafts beside a replica of a plan, in plain numbers: counted a second time."""

from dataclasses import replace

from servesat.core.plan import KvLayout
from servesat.deployment.check.replica import CheckedReplica
from servesat.deployment.check.shape import CheckedDraft
from servesat.spec.speculation import DraftChoice


def drafted(choice: DraftChoice, beside: CheckedReplica) -> CheckedDraft:
    """A choice of the spec beside a replica without one."""
    model, tokens, accepted = beside.model, choice.tokens, choice.accepted
    if choice.model is not None:
        alone = replace(
            beside,
            model=choice.model,
            tp_axes=(),
            ep_axes=(),
            kv_layout=KvLayout.HEADS,
            weights="bf16",
            kv_cache="bf16",
        )
        of_ours = replace(beside, kv_cache="bf16").sequence_bytes(1000)
        held, split = alone.weights_bytes, replace(alone, tp_axes=beside.tp_axes)
        return CheckedDraft(
            tokens=tokens, accepted=accepted, held_bytes=held, read_bytes=held, expert_bytes=0.0,
            flop=alone.flop_of_token, layers=choice.model.layers, kv_share=alone.sequence_bytes(1000) / of_ours,
            splits=split.divides_heads and split.splits_kv_heads,
        )  # fmt: skip
    share = 1 / model.layers
    if choice.parameters is not None:
        held, flop = 2.0 * choice.parameters, 2.0 * choice.parameters
        return CheckedDraft(
            tokens=tokens, accepted=accepted, held_bytes=held, read_bytes=held, expert_bytes=0.0, flop=flop, layers=1,
            kv_share=share,
        )  # fmt: skip
    joined = 2.0 * model.d_model**2
    layer = beside.last_layer
    held = layer.other_bytes + 2 * joined
    return CheckedDraft(
        tokens=tokens, accepted=accepted, held_bytes=held, read_bytes=held + layer.head_bytes,
        expert_bytes=layer.expert_bytes, flop=layer.flop + 2 * (joined + model.d_model * model.vocab_size), layers=1,
        kv_share=share,
    )  # fmt: skip

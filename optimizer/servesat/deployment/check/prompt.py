"""What prefill does to a plan: its time, and what it adds to the steps of a replica that decodes."""

from dataclasses import dataclass
from fractions import Fraction

from servesat.core.plan import Assignment, Mode
from servesat.deployment.check.replica import CheckedReplica
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class Prompt:
    """The prefill of one prompt [s].

    `pause_s` is how long it holds up sequences that are being decoded, `s_per_output_token` what it adds for each
    sequence of the batch; chunks of `chunk_tokens` together on each step take `chunk_s` of FLOPs, one in each stage.
    `loaded_s` passes before, for what is cached in the memory of the host.
    """

    prefill_s: float = 0.0
    transfer_s: float = 0.0
    pause_s: float = 0.0
    s_per_output_token: float = 0.0
    chunk_tokens: float = 0.0
    chunk_s: float = 0.0
    loaded_s: float = 0.0


def cached_tokens(spec: Spec) -> Fraction:
    """Tokens of the prompt that are in the cache already, exactly: 12,800 at a hit rate of 0.58 are 7,424."""
    on_chips = Fraction(str(spec.workload.prefix_cache_hit)) * (spec.workload.prompt_tokens or 0)
    return on_chips + host_tokens(spec)


def host_tokens(spec: Spec) -> Fraction:
    """Those of them that are in the memory of the host, exactly."""
    behind = spec.workload.host_cache
    share = Fraction(0) if behind is None else Fraction(str(behind.hit or 0.0))
    return share * (spec.workload.prompt_tokens or 0)


def new_tokens(spec: Spec) -> Fraction:
    """Tokens of the prompt that prefill computes, exactly."""
    return (spec.workload.prompt_tokens or 0) - cached_tokens(spec)


def prompt_of(
    spec: Spec, assignment: Assignment, replica: CheckedReplica, pool: CheckedReplica | None, networks: list[float]
) -> Prompt:
    """The prefill of an assignment in its mode; `pool` is a replica of its prefill pool, if it has one.

    `networks` is what a chip of the pool that decodes sends, then one that prefills [bytes/s].
    """
    if assignment.mode is Mode.DECODE_ONLY:
        return Prompt()
    cached, new = float(cached_tokens(spec)), float(new_tokens(spec))
    if pool is not None:
        sent = pool.sent_bytes(spec.workload.prompt_tokens or 0)
        slower = min(side.chips * network for side, network in zip((replica, pool), networks, strict=True))
        return Prompt(prefill_s=pool.prompt_s(cached, new, spec.mfu_of_prefill), transfer_s=sent / slower)
    chunk = assignment.chunk_tokens
    if chunk is not None and chunk < new_tokens(spec):
        whole_s = replica.prompt_flops_s(cached, new, spec.mfu_of_prefill)
        on_step = chunk * replica.pp
        return Prompt(chunk_tokens=on_step, chunk_s=whole_s * on_step / new, loaded_s=_loaded_s(spec, replica))
    prefill_s = replica.prompt_s(cached, new, spec.mfu_of_prefill)
    in_stage = prefill_s / replica.pp
    return Prompt(
        prefill_s=prefill_s,
        pause_s=in_stage,
        s_per_output_token=in_stage / (spec.workload.output_tokens or 1),
        loaded_s=_loaded_s(spec, replica),
    )


def _loaded_s(spec: Spec, replica: CheckedReplica) -> float:
    """To load what a host holds of a prompt over the links of the chips that hold a sequence [s]."""
    tokens, links = float(host_tokens(spec)), replica.tp * replica.pp * (replica.chip.host_bytes_per_s or 0.0)
    return replica.held_kv_bytes(tokens) / (links * replica.host_link_share) if tokens else 0.0

"""Prefill, and how its pace compares with decoding (scaling book, part 8, "What about prefill?")."""

from math import ceil

from servesat.roofline import flops_s


def prefill_s(parameters: float, prompt_tokens: float, tp: int, flop_per_s: float, mfu: float = 1.0) -> float:
    """Time to prefill a prompt that is compute-bound: 2 · P · tokens / (Y · C · mfu) [s]; attention FLOPs left out."""
    return float(flops_s(parameters, prompt_tokens, tp, flop_per_s * mfu))


def chunked_prefill_s(prompt_tokens: int, chunk_tokens: int, step_s: float) -> float:
    """Time to prefill a prompt in chunks that ride on decode steps: ceil(prompt / chunk) · step [s]."""
    return ceil(prompt_tokens / chunk_tokens) * step_s


def sequences_finished(batch: int, output_tokens: int) -> float:
    """Sequences that finish a step, on average: B / G."""
    return batch / output_tokens


def tokens_evicted(batch: int, prompt_tokens: int, output_tokens: int) -> float:
    """Tokens that leave the KV cache a step, on average: B · (P + G) / G."""
    return batch * (prompt_tokens + output_tokens) / output_tokens


def prefill_replicas_per_decode(prefill_s: float, batch: int, step_s: float, output_tokens: int) -> float:
    """Prefill replicas that keep one decode replica full: t_prefill · B / (G · step)."""
    return prefill_s * batch / (output_tokens * step_s)


def kv_transfer_s(kv_bytes: float, network_bytes_per_s: float) -> float:
    """Time to ship one sequence's KV cache from a prefill replica to a decode replica [s]."""
    return kv_bytes / network_bytes_per_s

"""One replica of a plan in plain numbers: the ideal cost model of docs/cost-model.md, written a second time."""

from dataclasses import dataclass
from functools import cached_property
from math import inf

from servesat.deployment.check.kv_cache import KvCache
from servesat.deployment.check.links import Links
from servesat.deployment.check.weights import BITS, StoredWeights


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """The terms of one decode step [s]."""

    weights_s: float
    flops_s: float
    ici_s: float
    kv_cache_s: float
    kv_exchange_s: float
    pipeline_s: float
    draft_s: float
    head_s: float = 0.0
    launches_s: float = 0.0
    host_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The longest of the overlapping terms, the KV cache, all that is exchanged, and what drafts [s]."""
        moved = self.kv_cache_s + self.kv_exchange_s + self.pipeline_s
        return max(self.weights_s, self.flops_s, self.ici_s) + moved + self.draft_s


class CheckedReplica(StoredWeights, KvCache, Links):
    """What a replica takes for a step and for a prompt: loading, computing, and what its chips send each other."""

    def _visited(self, tokens: float) -> float:
        """The share of a layer's experts that some of the tokens are expected to visit."""
        moe = self._experts
        if moe is None:
            return 0.0
        missed_by_one = 1 - moe.experts_per_token / moe.experts
        return 1.0 - float(missed_by_one**tokens)

    @property
    def _hbm_bytes_per_s(self) -> float:
        return self.chips * self.chip.hbm_bytes_per_s

    @property
    def host_link_share(self) -> float:
        """What its links to the memory of hosts reach of their bandwidth."""
        return 1.0

    @cached_property
    def _chip_flop_per_s(self) -> float:
        """What a chip computes of a token's matmuls in a second, each weight in its own dtype if that is wider."""
        peaks, moe = self.chip.flop_per_s.by_dtype(), self._experts
        met = 0.0 if moe is None else self._routed * moe.experts_per_token / moe.experts
        of_group = {"attention": self._mixing, "mlp": self._dense, "shared_experts": self._shared, "experts": met}
        seconds, rest = 0.0, self._active_parameters
        for name, left in self._checkpoint.wider.items() if self._checkpoint else ():
            if BITS[left.dtype] > BITS[self.compute]:
                weights = left.share * of_group[str(name)]
                seconds += weights / peaks.get(left.dtype, peaks.get("bf16", peaks[self.compute]))
                rest -= weights
        return self._active_parameters / (seconds + rest / peaks[self.compute])

    @property
    def _flop_per_s(self) -> float:
        return self.chips * self._chip_flop_per_s

    def _load_s(self, tokens: float) -> float:
        """What so many tokens need, stage after stage [s]."""
        needed = self._other_bytes + self._expert_bytes * self._visited(tokens)
        return needed * self.pp / self._hbm_bytes_per_s

    def step(self, batch: float, context_tokens: float, chunk_tokens: float = 0.0, chunk_s: float = 0.0) -> StepParts:
        """One token for each sequence of the batch, and a prefill chunk that takes `chunk_s` of FLOPs.

        Each stage has a micro-batch at a time, whose tokens pass one stage after another. With a draft, a step verifies
        what was drafted, too.
        """
        verified = batch * self._verified
        tokens = verified + chunk_tokens
        return StepParts(
            weights_s=self._load_s(tokens / self.pp),
            flops_s=2 * verified * self._crowding * self._active_parameters / self._flop_per_s + chunk_s,
            ici_s=self._layers_ici_s(tokens) if self.pays_ici else 0.0,
            kv_cache_s=batch * self._read_kv_bytes(context_tokens) / self._hbm_bytes_per_s,
            kv_exchange_s=verified * self._exchanged_bytes / self._gather_bytes_per_s,
            pipeline_s=batch * self._handed_on_s,
            draft_s=self._drafting_s(batch, context_tokens),
        )

    def _drafting_s(
        self, batch: float, context_tokens: float, loading: float = 1.0, computing: float = 1.0, reading: float = 1.0
    ) -> float:
        """To draft for each sequence, one token after another, with chips that reach a part of their peaks [s]."""
        draft = self.draft
        if draft is None:
            return 0.0
        bandwidth, peaks = self._hbm_bytes_per_s, self.chip.flop_per_s.by_dtype()
        load = (self.ep * draft.read_bytes + draft.expert_bytes * self._visited(batch)) / (bandwidth * loading)
        compute = batch * draft.flop / (self.chips * peaks.get("bf16", max(peaks.values())) * computing)
        caches = batch * draft.kv_share * self._read_kv_bytes(context_tokens) / (bandwidth * reading)
        return draft.tokens * (max(load, compute) + caches)

    def mfu(self, tokens_per_s: float, prompt_flop: float) -> float:
        """The share of the peak that so many output tokens/s use, each with a part of a prompt."""
        return tokens_per_s * (2 * self._active_parameters + prompt_flop) / self._flop_per_s

    def mbu(self, batch: float, context_tokens: float, tpot_s: float) -> float:
        """The share of the bandwidth that loading the weights and the KV cache once in `tpot_s` uses."""
        read = self._other_bytes + self._expert_bytes * self._visited(batch * self._verified / self.pp)
        return (self.pp * read + batch * self._read_kv_bytes(context_tokens)) / (tpot_s * self._hbm_bytes_per_s)

    def prompt_flop(self, cached: float, new: float) -> float:
        """The matmuls of the new tokens of a prompt, and their attention to all before them [FLOP]."""
        return 2 * self._active_parameters * new + self._attention_flop(cached, cached + new)

    def prompt_flops_s(self, cached: float, new: float, mfu: float) -> float:
        """The FLOPs of a prompt in the fullest stage, at so much of the peak [s]."""
        return self._crowding * self.prompt_flop(cached, new) / (mfu * self._flop_per_s)

    def prompt_s(self, cached: float, new: float, mfu: float) -> float:
        """One prompt on the replica: its FLOPs, loading the weights, or the interconnect where it is paid [s]."""
        longest = max(self.pp * self.prompt_flops_s(cached, new, mfu), self._load_s(new))
        longest = max(longest, self.pp * self._layers_ici_s(new)) if self.pays_ici else longest
        return longest + self.pp * new * self._handed_on_s

    def _attention_flop(self, first: float, last: float) -> float:
        """Two FLOPs a value of every query and key, and of every score and value, for the tokens from first to last."""
        model, mla, sparse = self.model, self.model.mla, self.model.sparse
        a_pair = 2 * model.query_heads * (model.head_dim + (model.head_dim if mla is None else mla.v_head_dim))
        apart = 0.0
        for other in model.other_layers:
            window = inf if other.window_tokens is None else other.window_tokens
            chosen = inf if other.selected_tokens is None else other.selected_tokens
            scores_and_values = other.head_dim + (other.v_head_dim or other.head_dim)
            attended = 2 * other.heads * scores_and_values * _met(first, last, min(window, chosen))
            indexed = other.index_flops * _met(first, last, window)
            in_state = other.state_flops * (last - first)
            apart += other.layers * ((attended + indexed) / other.entry_tokens + in_state)
        if sparse is not None:
            index = 2 * sparse.index_heads * sparse.index_head_dim
            attended = self._own_layers * a_pair * _met(first, last, sparse.tokens)
            return apart + attended + self._index_layers * index * _met(first, last, inf)
        window = inf if model.window_tokens is None else model.window_tokens
        full, windowed = self._own_layers - model.window_layers, model.window_layers
        return apart + a_pair * (full * _met(first, last, inf) + windowed * _met(first, last, window))

    def matmuls(self, tokens: float) -> list[tuple[float, float]]:
        """For the MLP matmul of each kind of layer: the time on the interconnect, and the time that hides it [s]."""
        model, moe, own = self.model, self._experts, tokens / self.ep
        group_bandwidth = self.tp * self.chip.hbm_bytes_per_s
        group_flop_per_s = self.tp * self._chip_flop_per_s
        found = []
        if self._dense_layers:
            matrix = self._dense / (self._dense_layers * self._mlp_matrices)
            stored = self._dense_bytes / (self._dense_layers * self._mlp_matrices)
            hidden = max(stored / group_bandwidth, 2 * own * matrix / group_flop_per_s)
            found.append((self._gather_s(own), hidden))
        if moe is not None:
            matrices = moe.layers * self._mlp_matrices
            loaded = self._shared_bytes / matrices / group_bandwidth
            loaded += self._published_expert_bytes / matrices * self._visited(tokens) / (self.ep * group_bandwidth)
            per_matrix = 2 * (moe.d_model or 0) / self._mlp_matrices
            weights = float(moe.experts_per_token * moe.d_ff * self._expert_width)
            weights += model.d_model * (moe.shared_d_ff + per_matrix)
            hidden = max(loaded, 2 * own * weights / group_flop_per_s)
            found.append((self._experts_ici_s(tokens), hidden))
        return found


def _met(first: float, last: float, reach: float) -> float:
    """The integral of min(x, reach) over the tokens from first to last: how many each of them meets."""
    if last <= reach:
        return (last**2 - first**2) / 2
    if first >= reach:
        return (last - first) * reach
    return (reach**2 - first**2) / 2 + (last - reach) * reach

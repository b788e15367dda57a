"""A replica as measured: the calibrated cost model of docs/cost-model.md, written a second time."""

from dataclasses import dataclass, replace

from servesat.catalogue.calibration import Calibration, StackCalibration
from servesat.catalogue.engine import Engine
from servesat.deployment.check.links import ACTIVATION_BYTES
from servesat.deployment.check.replica import CheckedReplica, StepParts


@dataclass(frozen=True, kw_only=True)
class MeasuredParts(StepParts):
    """The terms of one decode step [s]: only weights and FLOPs overlap, of the layers and of the head."""

    @property
    def total_s(self) -> float:
        """The longer of loading and computing, and all else one after the other [s]."""
        moved = self.kv_cache_s + self.kv_exchange_s + self.ici_s + self.pipeline_s
        return max(self.weights_s, self.flops_s) + self.head_s + moved + self.draft_s + self.launches_s + self.host_s


@dataclass(frozen=True, kw_only=True)
class MeasuredReplica(CheckedReplica):
    """A replica whose chip reaches a part of its peaks, under an engine whose host takes time."""

    calibration: Calibration
    engine: Engine | None
    slowness: float = 1.0  # of steps and prompts, beside adapters

    @property
    def _chip_figures(self) -> tuple[float, float, float, float]:
        """The shares of its peaks: loading weights, reading the KV cache, computing, sending."""
        known = self.calibration.chips.get(self.chip.id, self.calibration.default_chip)
        of_dtype = {str(name): share for name, share in self.calibration.dtypes.items()}
        return known.weights, known.kv_cache, known.flops * of_dtype.get(self.compute, 1.0), known.link

    @property
    def _host(self) -> StackCalibration:
        """What the host takes: of a step, a sequence, a request and a prompt; and how far prompts go first."""
        if self.engine is None:
            return self.calibration.default_stack
        return self.calibration.stack(self.engine.program, self.engine.version)[0]

    @property
    def host_link_share(self) -> float:
        """As measured: 25 to 26 of the 32 GB/s of PCIe 4."""
        return 0.8

    @property
    def request_s(self) -> float:
        """What passes before a request's prompt is begun [s]."""
        return self._host.request_s

    @property
    def prompts_first(self) -> float:
        """The share of the prompts of others that a prompt waits for."""
        return self._host.prompts_first

    @property
    def _looked_up_bytes(self) -> float:
        """Bytes of the embedding and the head, each once for each group that attends apart."""
        names = ("embedding",) if self.model.tied_embeddings else ("embedding", "head")
        tables = [self._bytes_of_table(name) for name in names]
        return self.ep * (self.pp * max(tables) if self.pp > 1 else sum(tables))

    def _loading_s(self, tokens: float) -> float:
        """The layers' weights that some tokens need, from the memory of one stage after another [s]."""
        read = self._other_bytes - self._looked_up_bytes + self._expert_bytes * self._visited(tokens)
        return read * self.pp / (self._hbm_bytes_per_s * self._chip_figures[0])

    def _head_s(self, sequences: float) -> float:
        """The output head, read or computed with by the last stage, for one micro-batch after another [s]."""
        loading, _, computing, _ = self._chip_figures
        read = self.ep * self._bytes_of_table("embedding" if self.model.tied_embeddings else "head")
        peaks = self.chip.flop_per_s.by_dtype()
        peak = self.tp * self.ep * peaks.get("bf16", max(peaks.values()))
        bandwidth = self.tp * self.ep * self.chip.hbm_bytes_per_s
        of_micro_batch = 2 * sequences * self._verified / self.pp * self._table / (peak * computing)
        return self.pp * max(read / (bandwidth * loading), of_micro_batch)

    @property
    def _flop_of_token(self) -> float:
        """Of a token in the layers, those of its experts as many more as these take longer."""
        moe, tables = self._experts, self._table * (1 if self.model.tied_embeddings else 2)
        met = 0.0 if moe is None else self._routed * moe.experts_per_token / moe.experts
        return 2 * (self._active_parameters - tables - met + met / self.calibration.experts)

    @property
    def _issued_s(self) -> float:
        """The host's launches of the stage with most layers, 8 of each and 12 more of one with experts [s]."""
        with_experts = 0 if self._experts is None else self._experts.layers
        return (8 * self.model.layers + 12 * with_experts) * self._crowding * self._host.host_launch_s

    @property
    def _sent_s_of_token(self) -> float:
        """The all-reduces of a token after attention and MLP of each layer, and its ways to experts and back [s]."""
        width, moe = ACTIVATION_BYTES * self.model.d_model, self._experts
        found = 0.0
        if self.tp > 1:
            all_reduce = 2 * (self.tp - 1) / self.tp * width
            found += 2 * self.model.layers * all_reduce / (self.ep * self._gather_bytes_per_s)
        if moe is not None and self.ep > 1:
            one_way = ACTIVATION_BYTES * self._expert_width * min(moe.experts_per_token, self.ep)
            found += 2 * moe.layers * one_way / self._exchange_bytes_per_s
        return found * self._crowding / self.pp / self._chip_figures[3]

    @property
    def _launches_s(self) -> float:
        known = self.calibration.chips.get(self.chip.id, self.calibration.default_chip)
        return 8 * self.model.layers * self._crowding * known.launch_s

    @property
    def _latency_s(self) -> float:
        """Of the collectives of all layers, however little they send [s]."""
        known = self.calibration.chips.get(self.chip.id, self.calibration.default_chip)
        count = 2 * self.model.layers if self.tp > 1 else 0
        if self._experts is not None and self.ep > 1:
            count += 2 * self._experts.layers
        hops = self.pp if self.pp > 1 else 0
        return (count * self._crowding + hops) * known.collective_s

    def step(self, batch: float, context_tokens: float, chunk_tokens: float = 0.0, chunk_s: float = 0.0) -> StepParts:
        """One token for each sequence of the batch; prompts count apart, and waiting for launches as the host's."""
        loading, reading, computing, sending = self._chip_figures
        verified = batch * self._verified
        parts = MeasuredParts(
            weights_s=self._loading_s(verified / self.pp),
            flops_s=verified * self._crowding * self._flop_of_token / (self._flop_per_s * computing),
            ici_s=self._latency_s + verified * self._sent_s_of_token,
            kv_cache_s=batch * self._read_kv_bytes(context_tokens) / (self._hbm_bytes_per_s * reading),
            kv_exchange_s=verified * self._exchanged_bytes / (self._gather_bytes_per_s * sending),
            pipeline_s=batch * self._handed_on_s / sending,
            draft_s=self._drafting_s(batch, context_tokens, loading, computing, reading) + self._drafted_by_host_s,
            head_s=self._head_s(batch),
            launches_s=self._launches_s,
            host_s=self.pp * self._host.step_s + self._host.sequence_s * batch / self.ep,
        )
        drafted = 0 if self.draft is None else 8 * self.draft.tokens * self.draft.layers
        issued_s = self._issued_s + drafted * self._host.host_launch_s
        waited = replace(parts, host_s=parts.host_s + max(0.0, issued_s - parts.total_s))
        return MeasuredParts(**{name: self.slowness * value for name, value in vars(waited).items()})

    @property
    def _drafted_by_host_s(self) -> float:
        """Launches and latencies of the layers of a draft, and its host, for each token that it drafts [s]."""
        if self.draft is None:
            return 0.0
        known = self.calibration.chips.get(self.chip.id, self.calibration.default_chip)
        together = 2 if self.tp > 1 or (self._experts is not None and self.ep > 1) else 0
        of_layer = 8 * known.launch_s + together * known.collective_s
        return self.draft.tokens * (self.draft.layers * of_layer + self.calibration.draft_s)

    def _prompt_parts(self, cached: float, new: float) -> tuple[float, float]:
        """What a prompt takes of the fullest stage to compute, attention at 0.7 of matmuls' pace, and to send [s]."""
        _, _, computing, sending = self._chip_figures
        matmuls = self._flop_of_token * new / (self._flop_per_s * computing)
        attention = self._attention_flop(cached, cached + new) / (self._flop_per_s * computing * 0.7)
        sent = new * (self._sent_s_of_token + self._handed_on_s / sending)
        return self._crowding * (matmuls + attention), sent

    def prompt_work_s(self, cached: float, new: float) -> float:
        """What a prompt adds to steps of a stage that run anyway [s]."""
        return self.slowness * (self._host.prompt_s + sum(self._prompt_parts(cached, new)))

    def prompt_s(self, cached: float, new: float, mfu: float) -> float:
        """One prompt with nothing beside it [s]; `mfu` is the ideal model's."""
        computed, sent = self._prompt_parts(cached, new)
        of_stages = self.pp * (sent + self._host.step_s)
        busy = max(self.pp * computed, self._loading_s(new)) + of_stages + self._launches_s + self._latency_s
        return self.slowness * (max(busy, self._issued_s) + self.pp * self._host.prompt_s)

    def queue_s(self, work_s: float, step_s: float, batch: float, output_tokens: float) -> float:
        """What of the other prompts' work comes before a request's first token [s]."""
        all_others = max(0.0, batch - 1) * work_s
        busy = all_others / (output_tokens * step_s)
        return min(all_others, self.prompts_first * all_others + busy * work_s / 2)

"""The cost model once more, in plain numbers: written from docs/cost-model.md, for the oracles that enumerate.

Takes the raw spec (mappings) and imports nothing from servesat.
"""

from functools import lru_cache
from itertools import product
from math import ceil, prod
from typing import Any

BYTES = {"bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5, "mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8}
BITS = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "mxfp4": 4, "nvfp4": 4}
MET = 1e-9  # a limit missed by less, relatively, is met

of_machine = lru_cache(maxsize=64)  # what all batches of a machine share


def divisors_hold(model: dict[str, Any], tp: int) -> bool:
    """Whether the query heads and every width divide into so many."""
    moe = model.get("moe") or {"d_ff": tp, "shared_d_ff": 0}
    others = model.get("other_layers", [])
    mlps = [other["d_ff"] for other in model.get("other_mlps", [])]
    widths = [
        *mlps,
        model.get("d_ff", 0),
        moe["d_ff"],
        moe.get("shared_d_ff", 0),
        *(other["heads"] for other in others),
    ]
    widths += [model["query_heads"]] if own_layers(model) else []
    return all(width % tp == 0 for width in widths)


def own_layers(model: dict[str, Any]) -> int:
    """Layers with the attention of the model itself."""
    return model["layers"] - sum(other["layers"] for other in model.get("other_layers", []) if not other.get("beside"))


class Machine:
    """One replica: a model, a chip's slice, how it is split, and its dtypes with the engine that runs them, if any."""

    def __init__(self, spec, chip, topology, split, dtypes):
        self.spec, self.model, self.chip = spec, spec["model"], chip
        self.topology = topology
        self.tp_axes, self.ep_axes, self.layout, self.pp_axes = split
        self.weights, self.kv, self.compute, self.engine, (self.ahead, self.accepted) = dtypes
        self.sizes = [int(size) for size in topology.split("x")]
        self.n = prod(self.sizes)
        self.tp = prod(self.sizes[axis] for axis in self.tp_axes)
        self.ep = prod(self.sizes[axis] for axis in self.ep_axes)
        self.pp = prod(self.sizes[axis] for axis in self.pp_axes)
        self.stage = self.tp * self.ep
        self.y = self.stage * self.pp
        self.replicas = self.n // self.y
        self.moe, self.mla, self.sparse = (self.model.get(key) for key in ("moe", "mla", "sparse"))
        self.others, self.own = self.model.get("other_layers", []), own_layers(self.model)
        self.kv_heads = [other["kv_heads"] for other in self.others if other.get("kv_heads")]
        self.kv_heads += [1 if self.mla else self.model["kv_heads"]] if self.own else []
        self.indexed = self.sparse.get("layers", self.own) if self.sparse else 0
        self.states = sum(other["layers"] * other.get("state_bytes", 0) for other in self.others)
        native = self.model.get("native") or {}
        self.native = native if native.get("dtype") == self.weights else {}
        self.hbm = chip["hbm_bytes_per_s"]
        whole = ceil(self.model["layers"] / self.pp)
        self.fullest = whole * self.pp / self.model["layers"]  # over a mean stage
        if self.moe:
            each = self.moe.get("every", 1)
            there = [layer * each for layer in range(self.moe["layers"])]
            most = max(sum(first <= layer < first + whole for layer in there) for first in there)
            self.fullest = max(self.fullest, most * self.pp / self.moe["layers"])
        self._count()
        self.peak = 1 / self._s_of_flop(chip["flop_per_s"])

    def _s_of_flop(self, peaks):
        """Seconds that an operation of a token's matmuls takes on average, what is left wider in its own dtype."""
        found = 1 / peaks[self.compute]
        for group, left in self.native.get("wider", {}).items():
            dtype = left.get("dtype", "bf16")
            if BITS[dtype] > BITS[self.compute]:
                part = left.get("share", 1) * self.met[group] / self.active
                found += part * (1 / peaks[dtype] - 1 / peaks[self.compute])
        return found

    def weight_bytes(self, group):
        """Bytes of a weight of a group of tensors, on average."""
        book = self.model.get("nominal_parameters")
        tables = ("embedding", "head", "router")
        if group in tables and not book and group not in self.native.get("tables", ()):
            return 2
        each = BYTES[self.weights]
        if self.weights not in ("mxfp4", "nvfp4"):
            if self.native.get("group"):
                each += self.native.get("group_bits", 16) / 8 / self.native["group"]
            elif not self.native and self.weights == "int4" and self.spec.get("int4_group"):
                each += 32 / 8 / self.spec["int4_group"]
            elif not self.native and self.weights == "int4" and not book:
                group = self.model.get("checkpoint_blocks", {}).get("int4")
                each += 20 / 8 / group if group else 0
        left = self.native.get("wider", {}).get(group)
        share = left.get("share", 1) if left is not None else 0
        return share * BYTES[left.get("dtype", "bf16")] + (1 - share) * each if left is not None else each

    def _count(self):
        """Parameters and bytes: of the routed experts, of all else; and parameters that meet a token."""
        model, d_model = self.model, self.model["d_model"]
        self.narrow = (self.moe or {}).get("d_model", d_model)
        matrices = 3 if model.get("gated_mlp", True) else 2
        self.with_experts = self.moe["layers"] if self.moe else 0
        apart = [(other["layers"], other["d_ff"]) for other in model.get("other_mlps", [])]
        rest = model["layers"] - self.with_experts - sum(layers for layers, _ in apart)
        mlps = [*apart, (model.get("mlp_layers", rest), model.get("d_ff", 0))]
        dense = self.dense = sum(layers for layers, width in mlps if width)
        self.mlp_columns = sum(layers * width for layers, width in mlps)
        self.widest = max((width for layers, width in mlps if layers), default=0)
        others = sum(other["layers"] * other["parameters"] for other in self.others)
        counts = {
            "attention": self.own * self._attention() + self.indexed * self._indexer() + others,
            "mlp": matrices * d_model * self.mlp_columns,
            "embedding": d_model * model["vocab_size"],
            "head": 0 if model.get("tied_embeddings", False) else d_model * model["vocab_size"],
        }
        experts = active = 0.0
        if self.moe:
            one = self.with_experts * matrices * self.narrow * self.moe["d_ff"]
            experts, active = self.moe["experts"] * one, self.moe["experts_per_token"] * one
            counts["shared_experts"] = self.with_experts * matrices * d_model * self.moe.get("shared_d_ff", 0)
            counts["shared_experts"] += self.with_experts * 2 * d_model * self.moe.get("d_model", 0)
            counts["router"] = self.with_experts * d_model * self.moe["experts"]
        other = model.get("nominal_parameters") or sum(counts.values())
        held = {group: count * self.weight_bytes(group) for group, count in counts.items()}
        beyond = (other - sum(counts.values())) * self.weight_bytes("embedding")
        self.active, self.met = other + active, {**counts, "experts": active}
        tables = held["embedding"] + held["head"]
        self.other_bytes = sum(held.values()) + beyond
        if self.pp > 1:
            self.other_bytes = self.fullest * (self.other_bytes - tables) + self.pp * max(
                held["embedding"], held["head"]
            )
        self.expert_bytes = experts * self.weight_bytes("experts")
        self.mlp_matrix_bytes = held["mlp"] / (dense * matrices) if dense else 0
        self.shared_matrix_bytes = held["shared_experts"] / (self.with_experts * matrices) if self.moe else 0
        if self.moe and self.native.get("pad"):
            columns, to = self.moe["d_ff"] / self.tp, self.native["pad"]
            self.expert_bytes *= -(-columns // to) * to / columns
        self.expert_matrix_bytes = self.expert_bytes / (self.with_experts * matrices) if self.moe else 0
        self._count_draft(held, beyond, experts)
        self.expert_bytes *= self.fullest

    def _count_draft(self, held, beyond, experts):
        """A further layer as the last, that joins two states, with the head of the model: bytes and FLOPs."""
        model, layers, d_model = self.model, self.model["layers"], self.model["d_model"]
        tables = held["embedding"] + held["head"]
        joined = 2 * d_model**2
        self.draft_held = (sum(held.values()) + beyond - tables) / layers + 2 * joined
        self.draft_read = self.draft_held + (held["head"] or held["embedding"])
        self.draft_experts, met = 0.0, 0.0
        words = d_model * model["vocab_size"]
        inside = self.active - words * (1 if model.get("tied_embeddings", False) else 2)
        if self.moe:
            self.draft_experts = experts * self.weight_bytes("experts") / self.with_experts
            met = experts / self.with_experts * self.moe["experts_per_token"] / self.moe["experts"]
            inside -= experts * self.moe["experts_per_token"] / self.moe["experts"]
        self.draft_flop = 2 * (inside / layers + met + joined + words)
        if not self.ahead:
            self.draft_held = self.draft_read = self.draft_experts = self.draft_flop = 0.0

    def drafting_s(self, batch, tokens, loading=1.0, computing=1.0, reading=1.0):
        """What drafting takes, one token after another."""
        load = (self.draft_read / self.tp + self.draft_experts * self.touched(batch) / self.stage) / self.hbm
        bf16 = self.chip["flop_per_s"]["bf16"]
        compute = batch * self.draft_flop / (self.y * bf16)
        cache = (self.kv_read_s(batch, tokens) - batch * self.exchanged_s()) / self.model["layers"]
        return self.ahead * (max(load / loading, compute / computing) + cache / reading)

    def _attention(self):
        model, d_model, heads = self.model, self.model["d_model"], self.model["query_heads"]
        source = d_model
        if self.mla:
            nope, rope, value = (self.mla[key] for key in ("nope_head_dim", "rope_head_dim", "v_head_dim"))
            rank, total = self.mla["kv_lora_rank"], 0
            if self.mla.get("q_lora_rank"):
                total, source = d_model * self.mla["q_lora_rank"], self.mla["q_lora_rank"]
            total += source * heads * (nope + rope) + d_model * (rank + rope)
            total += rank * heads * (nope + value) + heads * value * d_model
        else:
            total = 2 * d_model * model["head_dim"] * (heads + model["kv_heads"])
        return total

    def _indexer(self):
        if not self.sparse:
            return 0
        source = (self.mla and self.mla.get("q_lora_rank")) or self.model["d_model"]
        width, count = self.sparse["index_head_dim"], self.sparse["index_heads"]
        return source * count * width + self.model["d_model"] * (width + count)

    def touched(self, tokens):
        """The share of the experts that some token visits."""
        return 1 - (1 - self.moe["experts_per_token"] / self.moe["experts"]) ** tokens if self.moe else 0

    def load_s(self, tokens):
        """What so many tokens together need, through all stages."""
        return (self.other_bytes / self.tp + self.expert_bytes * self.touched(tokens) / self.stage) / self.hbm

    def flops_s(self, tokens):
        return 2 * self.fullest * self.active * tokens / (self.y * self.peak)

    def hop_s(self):
        """A token from a stage to the next: two activations, spread over the chips of the stage."""
        return 4 * self.model["d_model"] / (self.stage * min(self.widths(self.pp_axes))) if self.pp > 1 else 0

    @of_machine
    def weights_bytes(self):
        vision = 2 * self.model.get("vision_parameters", 0) * self.pp
        held = (self.other_bytes + vision + self.draft_held) * self.ep + self.expert_bytes + self.draft_experts
        return held + self.adapters_bytes()

    def adapters_bytes(self):
        """Two factors beside each matrix: the one on the side that chips share is shared, the other is on each."""
        lora = self.spec.get("lora")
        if not lora:
            return 0
        model, tp, d_model = self.model, self.tp, self.model["d_model"]

        def beside_mlp(width, columns):
            into = tp * width + columns
            return (2 * into if model.get("gated_mlp", True) else into) + columns + tp * width

        def on_each(inputs, outputs):
            return tp * (inputs + outputs)

        groups, spread = self.own * self._beside_attention(), 0
        if self.sparse:
            source = (self.mla and self.mla.get("q_lora_rank")) or d_model
            width, count = self.sparse["index_head_dim"], self.sparse["index_heads"]
            one = on_each(source, width * count) + on_each(d_model, width) + on_each(d_model, count)
            groups += self.indexed * one
        for other in self.others:
            groups += other["layers"] * (4 * tp * d_model + other["parameters"] / d_model)
        if lora.get("modules", "all") == "all":
            apart = [(other["layers"], other["d_ff"]) for other in model.get("other_mlps", [])]
            rest = model["layers"] - self.with_experts - sum(layers for layers, _ in apart)
            mlps = [*apart, (model.get("mlp_layers", rest), model.get("d_ff", 0))]
            groups += sum(layers * beside_mlp(d_model, width) for layers, width in mlps if width)
            if self.moe:
                shared = self.moe.get("shared_d_ff", 0)
                groups += self.with_experts * (beside_mlp(d_model, shared) if shared else 0)
                groups += self.with_experts * (2 * on_each(d_model, self.narrow) if "d_model" in self.moe else 0)
                spread = self.with_experts * self.moe["experts"] * beside_mlp(self.narrow, self.moe["d_ff"])
        values = self.fullest * (self.ep * groups + spread)
        if lora.get("modules", "all") == "all":
            values += self.y * (d_model + model["vocab_size"]) * (1 if self.pp > 1 else 2)
        return 2 * lora["adapters"] * lora.get("rank", 16) * values

    def _beside_attention(self):
        """The factors of a layer, on all chips that share it."""
        model, tp, d_model, heads = self.model, self.tp, self.model["d_model"], self.model["query_heads"]
        if not self.mla:
            each = model["head_dim"]
            copies = max(tp, model["kv_heads"])
            return 4 * tp * d_model + each * (2 * heads + 2 * copies)
        nope, rope, value = (self.mla[key] for key in ("nope_head_dim", "rope_head_dim", "v_head_dim"))
        rank, source = self.mla["kv_lora_rank"], self.mla.get("q_lora_rank")
        total = tp * (d_model + source) if source else 0
        total += tp * (source or d_model) + heads * (nope + rope)
        total += tp * (d_model + rank + rope) + tp * rank + heads * (nope + value)
        return total + heads * value + tp * d_model

    def _layer_bytes(self, tokens):
        """What a layer's cache holds of so many tokens, the index aside."""
        if self.mla and self.sparse and self.kv == "fp8":
            return tokens * (self.mla["kv_lora_rank"] * (1 + 4 / 128) + self.mla["rope_head_dim"] * 2)
        if self.mla:
            return tokens * (self.mla["kv_lora_rank"] + self.mla["rope_head_dim"]) * BYTES[self.kv]
        return tokens * 2 * self.model["kv_heads"] * self.model["head_dim"] * BYTES[self.kv]

    def token_bytes(self):
        """What a token takes in a layer, by which caches are wider or narrower."""
        return self._layer_bytes(1)

    def _index_bytes(self, tokens):
        """The index of a layer: fp8 keys, with a scale of 4 bytes for 128 values."""
        return tokens * self.sparse["index_head_dim"] * (1 + 4 / 128)

    @of_machine
    def kept_bytes(self, tokens):
        """What one sequence holds with what is ahead of it, and with a layer more where one drafts."""
        held = self.whole_bytes(tokens)
        if self.ahead:
            held += self.ahead * (self.whole_bytes(tokens + 1) - held)
            held *= 1 + 1 / self.model["layers"]
        return held

    def whole_bytes(self, tokens):
        """What one sequence holds, with what lies beyond windows where the engine keeps that."""
        held = self.kv_bytes(tokens)
        if not self.engine:
            return held
        own = self._beyond(tokens, self.model.get("window_tokens"))
        beyond = self.model.get("window_layers", 0) * self._layer_bytes(own)
        beyond *= self.copies(1 if self.mla else self.model["kv_heads"])
        for other in self.others:
            if other.get("kv_heads"):
                more = self._beyond(tokens, other.get("window_tokens")) / other.get("entry_tokens", 1)
                of_entry = self._entry(other) + other.get("index_bytes", 0)
                beyond += other["layers"] * more * of_entry * self.copies(other["kv_heads"])
        return held + self.fullest * beyond

    def _beyond(self, tokens, window):
        """The tokens that a layer keeps under the engine beyond its window."""
        if window is None or tokens <= window:
            return 0
        if self.model["name"] in self.engine.get("whole_windows", []):
            return tokens - window
        if self.engine.get("window_pool_slack") is None:
            return 0
        workload = self.spec["workload"]
        hits = workload.get("prefix_cache_hit", 0) or workload.get("host_cache", {}).get("hit", 0)
        return min(tokens, window * (2 if hits else 1) + self.engine["window_pool_slack"]) - window

    @of_machine
    def kv_bytes(self, tokens):
        """What one sequence holds, in all copies of it."""
        windowed = self.model.get("window_layers", 0)
        held = (self.own - windowed) * self._layer_bytes(tokens)
        held += windowed * self._layer_bytes(min(tokens, self.model.get("window_tokens", tokens)))
        held += self.indexed * self._index_bytes(tokens) if self.sparse else 0
        held *= self.copies(1 if self.mla else self.model["kv_heads"])
        return self.fullest * (held + self._apart(tokens))

    @property
    def is_first_layout(self):
        """Whether it stands for all machines that differ in where the KV cache lies alone."""
        searched = self.spec["search"].get("kv_layouts", ["heads", "batch", "copies"])
        return self.layout == next(one for one in kv_layouts(self.model, self.tp) if one in searched)

    def copies(self, heads):
        """How often a KV head is held: by each of the chips that share it, where they hold copies."""
        return max(1, self.tp / heads) if self.layout == "copies" else 1

    def _apart(self, tokens):
        """What the other layers hold: keys and values of their own, and states."""
        total = self.states
        for other in self.others:
            if other.get("kv_heads"):
                kept = min(tokens, other.get("window_tokens", tokens)) / other.get("entry_tokens", 1)
                of_entry = self._entry(other) + other.get("index_bytes", 0)
                total += other["layers"] * kept * of_entry * self.copies(other["kv_heads"])
        return total

    def _entry(self, other):
        width = other["head_dim"] + other.get("v_head_dim", other["head_dim"])
        return other["kv_heads"] * width * BYTES[self.kv]

    def _skipped(self, tokens):
        """What of the other layers' caches is not selected."""
        total = 0
        for other in self.others:
            if "selected_tokens" in other:
                skipped = min(tokens, other.get("window_tokens", tokens)) - other["selected_tokens"]
                each = self._entry(other) * self.copies(other["kv_heads"])
                total += other["layers"] * max(0, skipped) / other.get("entry_tokens", 1) * each
        return total

    def kv_read_s(self, batch, tokens):
        """What a step reads of the caches, in seconds."""
        unread = self.fullest * (self.states - self._skipped(tokens))  # states are written back
        read = self.kv_bytes(tokens) + unread
        if self.sparse:
            selected = self._layer_bytes(min(tokens, self.sparse["tokens"]))
            read = self.own * selected + self.indexed * self._index_bytes(tokens)
            read *= self.copies(1 if self.mla else self.model["kv_heads"])
            read = self.fullest * (read + self._apart(tokens)) + unread
        return batch * read / (self.y * self.hbm) + batch * self.exchanged_s()

    @of_machine
    def exchanged_s(self):
        """A sequence's queries and partial results, between chips that each have a part of its tokens."""
        if self.layout != "sequence":
            return 0
        values = 0  # of two bytes, a sum's logarithm is two of them
        own = 1 if self.mla else self.model["kv_heads"]
        if self.own and self.tp > own:
            latent = (self.mla or {}).get("kv_lora_rank", 0)
            width = 2 * latent + self.mla["rope_head_dim"] if self.mla else 2 * self.model["head_dim"]
            values += self.own * self.model["query_heads"] / own * (width + 2)
        for other in self.others:
            if other.get("kv_heads") and self.tp > other["kv_heads"]:
                width = other["head_dim"] + (other.get("v_head_dim") or other["head_dim"])
                values += other["layers"] * other["heads"] / other["kv_heads"] * (width + 2)
        return self.fullest * self.gather_s(values / self.model["d_model"] / (self.ep * self.pp))

    @of_machine
    def widths(self, axes):
        """What each of some axes gives."""
        found = []
        torus = [place for place, link in enumerate(self.chip["axes"]) if "wraps_every" in link]
        cube, whole = len(torus) == 3, all(self.sizes[at] % self.chip["axes"][at]["wraps_every"] == 0 for at in torus)
        for axis in axes:
            link = self.chip["axes"][axis]
            ring = "wraps_every" not in link or (whole if cube else self.sizes[axis] % link["wraps_every"] == 0)
            by_default = "assumed" if self.spec.get("cost_model", "ideal") == "ideal" else "exact"
            exact = self.spec.get("wraparound", by_default) == "exact"
            found.append(link["bytes_per_s"] / (1 if ring or not exact else 2))
        return tuple(found)

    def gather_s(self, rows):
        """Activations of so many rows, gathered over the tensor-parallel axes."""
        widths = self.widths(self.tp_axes)
        if not widths:
            return 0.0
        together = all("wraps_every" in self.chip["axes"][axis] for axis in self.tp_axes)
        adds_up = together or min(widths) == max(widths)
        return 2 * rows * self.model["d_model"] / (min(widths) * (len(widths) if adds_up else 1))

    def exchange_s(self, rows):
        """Activations of so many rows, exchanged over the axes of the experts."""
        slowest = 0.0
        for axis, width in zip(self.ep_axes, self.widths(self.ep_axes), strict=True):
            hops = self.sizes[axis] / 4 if "wraps_every" in self.chip["axes"][axis] else 1
            slowest = max(slowest, 2 * rows * self.model["d_model"] * hops / (self.ep * width))
        return slowest

    def experts_ici_s(self, tokens):
        if self.ep == 1:
            return self.gather_s(tokens)
        copies = min(self.moe["experts_per_token"], self.ep) * self.narrow / self.model["d_model"]
        rows = tokens / self.ep * (copies + (1 if self.moe.get("shared_d_ff") else 0))
        return self.exchange_s(tokens * copies) + self.gather_s(rows)

    def ici_s(self, tokens):
        own = 2 * (self.model["layers"] + self.dense) * self.gather_s(tokens / self.ep)
        return self.fullest / self.pp * (own + self.with_experts * 2 * self.experts_ici_s(tokens))

    def waits(self, tokens):
        """Whether an MLP matmul waits for the interconnect, under `ici: forbid`."""
        if self.spec.get("ici", "forbid") == "pay" or self.spec.get("cost_model", "ideal") != "ideal":
            return False
        d_model, own, found = self.model["d_model"], tokens / self.ep, []
        if self.dense:
            matrix = d_model * self.mlp_columns / self.dense
            hbm = self.mlp_matrix_bytes / (self.tp * self.hbm)
            found.append((self.gather_s(own), hbm, 2 * own * matrix / (self.tp * self.peak)))
        if self.moe is not None:
            shared = d_model * self.moe.get("shared_d_ff", 0)
            hbm = self.shared_matrix_bytes / self.tp
            hbm = (hbm + self.expert_matrix_bytes * self.touched(tokens) / self.stage) / self.hbm
            visited = shared + self.moe["experts_per_token"] * self.narrow * self.moe["d_ff"]
            visited += 2 * d_model * self.moe.get("d_model", 0) / (3 if self.model.get("gated_mlp", True) else 2)
            found.append((self.experts_ici_s(tokens), hbm, 2 * own * visited / (self.tp * self.peak)))
        return any(ici > max(hbm, math) * (1 + MET) for ici, hbm, math in found)

    @of_machine
    def cuts_scales(self):
        """Whether a group of weights that share a scale lies on two chips."""
        group = {"mxfp4": 32, "nvfp4": 16}.get(self.weights)
        if group is None:
            group = self.native.get("group") if self.native else self.spec.get("int4_group")
            group = group if self.native or self.weights == "int4" else None
        if self.tp == 1 or not group:
            return False
        heads = self.model["query_heads"] * (self.mla["v_head_dim"] if self.mla else self.model["head_dim"])
        widths = [("attention", heads if self.own else 0), ("mlp", self.model.get("d_ff", 0))]
        widths += [("mlp", other["d_ff"]) for other in self.model.get("other_mlps", [])]
        for other in self.others:
            width = other.get("v_head_dim") or other.get("head_dim", 0)
            widths.append(("attention", other["heads"] * width))
        if self.moe:
            widths.append(("shared_experts", self.moe.get("shared_d_ff", 0)))
            widths.append(("experts", 0 if self.native.get("pad") else self.moe["d_ff"]))
        whole = {name for name, left in self.native.get("wider", {}).items() if left.get("share", 1) == 1}
        return any(width % (self.tp * group) for name, width in widths if name not in whole)

    def engine_holds(self, batch, prompt_tokens):
        """Bytes of the engine on all chips: its own, and activations of a step, of groups that each have a share."""
        if self.engine is None:
            return 0
        memory, model = self.engine["memory"], self.model
        fixed = memory["runtime_bytes"] + memory["graphs_bytes"] + (memory["collectives_bytes"] if self.y > 1 else 0)
        kept = memory.get("activations")
        if kept is None:
            return self.y * fixed
        sequences = batch * (self.ahead + 1) / (self.ep * self.pp)
        rows = sequences + prompt_tokens
        sampling = 4 * kept["logits_factor"] * sequences * model["vocab_size"] + 2 * rows * model["d_model"]
        if self.moe:
            columns = self.moe["d_ff"] / self.tp
            visits = 2 * rows * self.moe["experts_per_token"]
            held = sampling + visits * (max(columns, self.narrow) + max(2 * columns, self.narrow))
            return self.y * (fixed + held)
        layer = kept["width_factors"][0] * model["d_model"] + kept["width_factors"][1] * self.widest / self.tp
        return self.y * (fixed + max(sampling, 2 * rows * layer))

    @of_machine
    def room(self):
        """Bytes that may be used on all chips."""
        if self.engine is None:
            return (1 - self.spec.get("headroom", 0.0)) * self.y * self.chip["hbm_bytes"]
        memory = self.engine["memory"]
        share = 1 - self.spec["headroom"] if "headroom" in self.spec else memory["utilisation"]
        if "activations" not in memory:
            share = min(share, memory["utilisation"])
        return share * self.y * self.chip.get("usable_hbm_bytes", self.chip["hbm_bytes"])

    @of_machine
    def not_started(self, mode):  # noqa: PLR0911 - one return for each reason
        """Whether its engine cannot start it."""
        if self.engine is None:
            return False
        kind = "kv" if not self.mla else "sparse_kv" if self.sparse else "latent_kv"
        layouts = "latent_kv_layouts" if self.mla else "kv_layouts"
        for support in self.engine["runs"]:
            if self.chip["name"] in support["chips"]:
                runs = support["weights"].get(self.weights)
                if (
                    runs is None
                    or self.compute not in runs["compute"]
                    or self.kv not in support.get(f"{kind}_cache", {})
                ):
                    return True
                break
        else:
            return True
        in_groups = self.tp > 1 and self.ep > 1
        if "lora" in self.spec and (in_groups or not self.engine.get("adapters", False)):
            return True
        from_host = "host_cache" in self.spec["workload"]
        if from_host and (self.layout == "sequence" or not self.engine.get("host_cache", False)):
            return True
        split = self.layout == "sequence" and self.kv not in self.engine.get("split_kv_cache", ())
        if self.layout not in self.engine[layouts] or split or mode not in self.engine["modes"]:
            return True
        if mode == "disaggregated" and self.layout not in self.engine.get("disaggregation", {}).get(layouts, ()):
            return True
        spread = {"none": self.ep > 1, "data_parallel": self.ep > 1 and self.tp > 1, "any": False}
        nodes = self.engine["nodes"] == "one" and self.y > self.chip.get("node_chips", self.y)
        drafts = "mtp" in self.engine.get("drafts", ())
        drafts = drafts and (mode != "chunked" or self.engine.get("drafts_beside_chunks", True))
        nodes = nodes or (self.ahead > 0 and not drafts)
        stages = self.engine.get("pipelines", "none")
        staged = self.pp > 1 and (mode == "disaggregated" or stages == "none")
        staged = staged or (self.pp > 1 and self.ep > 1 and stages == "tensor_parallel")
        inside_out = bool(self.tp_axes and self.ep_axes) and self.tp_axes[-1] > self.ep_axes[0]
        return spread[self.engine["experts"]] or nodes or staged or inside_out

    def violations(self, sequences, tokens, batch, mode="decode_only", prompt_tokens=0):
        """What it breaks of the rules of its shape, holding so many sequences; the batch is None of a prefill pool."""
        violated = self.always_violated(mode)
        if mode == "decode_only":  # a server takes prompts all the same
            prompt_tokens = 2048
        held = self.weights_bytes() + sequences * self.kept_bytes(tokens) + self.engine_holds(batch or 0, prompt_tokens)
        if held > self.room() * (1 + MET):
            violated = violated | {"hbm"}
        if batch and batch % (self.ep * self.pp * self.parts()):
            violated = violated | {"kv_heads"}
        return set(violated)

    @of_machine
    def parts(self):
        """The groups of sequences into which chips that share a KV head divide the batch."""
        shared = [heads for heads in self.kv_heads if self.tp > heads and self.tp % heads == 0]
        return max((self.tp // heads for heads in shared), default=1) if self.layout == "batch" else 1

    @of_machine
    def always_violated(self, mode):
        """What it breaks whatever it holds."""
        violated = {"engine"} if self.not_started(mode) else set()
        if not divisors_hold(self.model, self.tp):
            violated.add("heads")
        if any(heads % self.tp and self.tp % heads for heads in self.kv_heads):
            violated.add("kv_heads")
        if self.cuts_scales():
            violated.add("blocks")
        wide = [
            left.get("dtype", "bf16") for left in self.native.get("wider", {}).values() if left.get("share", 1) >= 0.5
        ]
        if (
            max(BITS[dtype] for dtype in [self.weights, *(wide if self.weights != self.compute else [])])
            > BITS[self.compute]
        ):
            violated.add("dtypes")
        return frozenset(violated)


def kv_layouts(model: dict[str, Any], tp: int) -> list[str]:
    """Where the KV cache may lie: by heads, as long as each chip has some of every kind of layer."""
    heads = [other["kv_heads"] for other in model.get("other_layers", []) if other.get("kv_heads")]
    heads += [1 if model.get("mla") else model["kv_heads"]] if own_layers(model) else []
    return ["heads"] if all(tp <= count for count in heads) else ["batch", "sequence", "copies"]


def engines_of(spec: dict[str, Any]) -> list[Any]:
    """The engines of a spec, as it has them; None in place of none."""
    return [None] if spec.get("engine", "none") == "none" else spec["engine"]


def machines(spec: dict[str, Any]):
    """Every machine that a spec searches, in plain loops."""
    model, search = spec["model"], spec["search"]
    native = (model.get("native") or {}).get("dtype")
    book = ["heads", "batch", "copies"] if model.get("mla") else ["heads", "batch"]
    own = ["bf16", "int8"] if native in (None, "bf16", "int8") else ["bf16", "int8", native]
    dtypes = product(
        search.get("weights", own), search.get("kv_cache", ["bf16", "int8"]), search.get("compute", ["bf16"])
    )
    for chip, choice, engine, draft in product(search["chips"], list(dtypes), engines_of(spec), drafts_of(spec)):
        if choice[2] not in chip["flop_per_s"]:
            continue
        for topology in search.get("topologies", {}).get(chip["name"], chip["topologies"]):
            sizes = [int(size) for size in topology.split("x")]
            for roled in product(*(("-", "t", "e", "p") if size > 1 else ("-",) for size in sizes)):
                tp, ep, pp = (tuple(axis for axis, role in enumerate(roled) if role == kind) for kind in "tep")
                if ep and (not model.get("moe") or model["moe"]["experts"] % prod(sizes[axis] for axis in ep)):
                    continue
                if not may_be_staged(spec, chip, prod(sizes[axis] for axis in pp)):
                    continue
                if pp and (draft[0] or any(axis > min(pp) for axis in tp + ep)):
                    continue
                for layout in kv_layouts(model, prod(sizes[axis] for axis in tp)):
                    if layout in search.get("kv_layouts", book):
                        yield Machine(spec, chip, topology, (tp, ep, layout, pp), (*choice, engine, draft))


def drafts_of(spec: dict[str, Any]) -> list[tuple[int, float]]:
    """Tokens that may be drafted by a layer of the model, with how many a step makes: none, or as the spec says."""
    stated = spec.get("speculative", {"draft": "none"})
    return [(0, 1.0), *((tokens, stated["accepted"]) for tokens in stated.get("tokens", []))]


def may_be_staged(spec: dict[str, Any], chip: dict[str, Any], stages: int) -> bool:
    """Whether a replica may have so many stages: as listed, or any where some engine has stages on the chip."""
    if "pp" in spec["search"]:
        return stages in spec["search"]["pp"]
    able = [
        engine
        for engine in engines_of(spec)
        if engine is not None
        and spec.get("cost_model", "ideal") != "ideal"
        and engine.get("pipelines", "none") != "none"
        and any(chip["name"] in support["chips"] for support in engine["runs"])
    ]
    return stages <= (spec["model"]["layers"] if able else 1)

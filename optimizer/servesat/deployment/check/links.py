"""What the chips of a replica send each other: around attention, MLP and experts, and from stage to stage."""

from functools import cached_property
from math import inf

from servesat.catalogue.chip import Axis, axis_sizes
from servesat.core.plan import KvLayout
from servesat.deployment.check.shape import SplitModel

ACTIVATION_BYTES = 2
"""Activations travel in bf16."""

AXES_OF_CUBES = 3
"""Axes of a torus that is made of cubes."""


class Links(SplitModel):
    """The collectives of a replica over the axes of its slice."""

    @cached_property
    def _lines(self) -> set[int]:
        """Torus axes whose ends are not joined; a slice of three is joined as a whole, where it is made of cubes."""
        sizes, every = axis_sizes(self.topology), [link.wraps_every for link in self.chip.axes]
        torus = {axis for axis, joined in enumerate(every) if joined is not None}
        lines = {axis for axis in torus if sizes[axis] % (every[axis] or 1) > 0}
        if not self.exact_wraparound or not lines:
            return set()
        return torus if len(torus) == AXES_OF_CUBES else lines

    def _width(self, axis: int) -> tuple[Axis, int, float]:
        link = self.chip.axes[axis]
        return link, axis_sizes(self.topology)[axis], link.bytes_per_s * (0.5 if axis in self._lines else 1.0)

    @cached_property
    def _gather_bytes_per_s(self) -> float:
        """Axes of a torus, or of one speed, add up at the pace of the slowest; otherwise that one alone counts."""
        links = [self._width(axis) for axis in self.tp_axes]
        if not links:
            return inf
        widths = [width for _, _, width in links]
        adds_up = all(link.wraps_every is not None for link, _, _ in links) or min(widths) == max(widths)
        return min(widths) * (len(widths) if adds_up else 1)

    @cached_property
    def _exchange_bytes_per_s(self) -> float:
        """What all groups exchange in a second: on a ring of A chips a byte travels A / 4 links, else one."""
        paces = []
        for axis in self.ep_axes:
            link, size, width = self._width(axis)
            paces.append(self.ep * width / (size / 4 if link.wraps_every is not None else 1))
        return min(paces, default=inf)

    def _gather_s(self, rows: float) -> float:
        return ACTIVATION_BYTES * rows * self.model.d_model / self._gather_bytes_per_s

    def _experts_ici_s(self, tokens: float) -> float:
        """One way to or from the experts of a layer, for the tokens of all groups [s]."""
        moe = self._experts
        if moe is None:
            return 0.0
        groups_of_a_token = min(moe.experts_per_token, self.ep)
        exchange = ACTIVATION_BYTES * tokens * groups_of_a_token * self._expert_width / self._exchange_bytes_per_s
        if self.ep == 1:
            return self._gather_s(tokens) + exchange
        arriving = groups_of_a_token * self._expert_width / self.model.d_model + (1 if moe.shared_d_ff else 0)
        return self._gather_s(tokens * arriving / self.ep) + exchange

    def _layers_ici_s(self, tokens: float) -> float:
        """Two collectives around the attention and two around the MLP of each layer [s]."""
        layers, own = self.model.layers, tokens / self.ep
        sparse_layers = 0 if self._experts is None else self._experts.layers
        around_attention, around_mlp = 2 * layers * self._gather_s(own), 2 * self._dense_layers
        around_mlp_s = around_mlp * self._gather_s(own) + 2 * sparse_layers * self._experts_ici_s(tokens)
        return self._crowding / self.pp * (around_attention + around_mlp_s)

    @property
    def _handed_on_s(self) -> float:
        """A token's hidden state and residual from a stage to the next, a part over each chip [s]."""
        slowest = min((self._width(axis)[2] for axis in self.pp_axes), default=inf)
        return 2 * ACTIVATION_BYTES * self.model.d_model / (self.tp * self.ep) / slowest

    @property
    def _exchanged_bytes(self) -> float:
        """Queries and results of a token, of the heads that share a KV head with sequences on several chips [bytes]."""
        if self.kv_layout is not KvLayout.SEQUENCE:
            return 0.0
        model, mla, found = self.model, self.model.mla, 0.0
        if self._own_layers and self.tp > model.kv_heads:
            a_head = 2 * model.head_dim if mla is None else 2 * mla.kv_lora_rank + mla.rope_head_dim
            found += self._own_layers * model.query_heads // model.kv_heads * (ACTIVATION_BYTES * a_head + 4)
        for other in model.other_layers:
            if 0 < other.kv_heads < self.tp:
                a_head = other.head_dim + (other.v_head_dim or other.head_dim)
                found += other.layers * other.heads // other.kv_heads * (ACTIVATION_BYTES * a_head + 4)
        return found * self._crowding / (self.ep * self.pp)

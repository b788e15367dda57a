"""The bytes of a sequence in a replica's KV cache: those that it holds, and those that a step reads."""

from servesat.catalogue.model import OtherLayers
from servesat.core.plan import KvLayout
from servesat.deployment.check.shape import SplitModel
from servesat.deployment.check.weights import stored_bits


class KvCache(SplitModel):
    """What sequences take of a replica's memory."""

    @property
    def _token_bytes(self) -> float:
        """What a layer holds of a token: keys and values, or the latent with its rotary key, as its kernels read it."""
        mla, value = self.model.mla, stored_bits(self.kv_cache) / 8
        if mla is None:
            return 2 * self.model.kv_heads * self.model.head_dim * value
        if self.model.sparse is not None and self.kv_cache == "fp8":
            return mla.kv_lora_rank + 4 * mla.kv_lora_rank / 128 + 2 * mla.rope_head_dim
        return (mla.kv_lora_rank + mla.rope_head_dim) * value

    @property
    def _index_bytes(self) -> float:
        """The indexer's key of a token in fp8, and a scale of 4 bytes for each 128 of its values."""
        sparse = self.model.sparse
        return 0.0 if sparse is None else sparse.index_head_dim + 4 * sparse.index_head_dim / 128

    def _copies(self, kv_heads: int) -> float:
        """On how many chips each of so many KV heads lies whole."""
        return max(1.0, self.tp / kv_heads) if self.kv_layout is KvLayout.COPIES and kv_heads else 1.0

    def sequence_bytes(self, tokens: float) -> float:
        """KV cache of one sequence, before any copies [bytes]."""
        model = self.model
        within_window = tokens if model.window_tokens is None else min(tokens, model.window_tokens)
        full_layers = self._own_layers - model.window_layers
        held = full_layers * tokens + model.window_layers * within_window
        index = self._index_layers * self._index_bytes * tokens
        return self._token_bytes * held + index + self._other_cache(tokens, copied=False) + self._states

    def held_kv_bytes(self, tokens: float) -> float:
        """KV cache of one sequence in all its copies, with as many layers in each stage as the fullest has [bytes].

        With what is drafted ahead, and the cache of the draft.
        """
        held, draft = self._kept_bytes(tokens), self.draft
        if draft is not None:
            held += draft.tokens * (self._kept_bytes(tokens + 1) - held)
            held += held * draft.kv_share
        return self._crowding * held

    def sent_bytes(self, tokens: float) -> float:
        """What moves between pools of a sequence: one copy of it, with what an engine keeps beyond windows [bytes]."""
        return self.sequence_bytes(tokens) + self._beyond_windows(tokens, copied=False)

    def _kept_bytes(self, tokens: float) -> float:
        return self._copied_bytes(tokens) + self._beyond_windows(tokens, copied=True)

    def _beyond_windows(self, tokens: float, *, copied: bool) -> float:
        """What an engine keeps of a sequence beyond the windows of layers [bytes]."""
        model = self.model
        copies = self._copies(model.kv_heads) if copied else 1.0
        total = model.window_layers * self._token_bytes * copies * self._kept_beyond(tokens, model.window_tokens)
        for other in model.other_layers:
            copies = self._copies(other.kv_heads) if copied else 1.0
            entries = other.layers * copies * self._kept_beyond(tokens, other.window_tokens) / other.entry_tokens
            total += entries * (self._entry_bytes(other) + other.index_bytes)
        return total

    def _kept_beyond(self, tokens: float, window: int | None) -> float:
        """Tokens that a layer keeps of a sequence beyond its window."""
        if window is None or tokens <= window:
            return 0.0
        return min(tokens, self.windows_kept * window + self.kept_beyond_windows) - window

    def _copied_bytes(self, tokens: float) -> float:
        own = self.sequence_bytes(tokens) - self._other_cache(tokens, copied=False) - self._states
        return self._copies(self.model.kv_heads) * own + self._other_cache(tokens) + self._states

    def _other_cache(self, tokens: float, *, copied: bool = True) -> float:
        """Keys and values of the layers that are stated apart [bytes]."""
        total = 0.0
        for other in self.model.other_layers:
            copies = self._copies(other.kv_heads) if copied else 1
            each = self._entry_bytes(other) + other.index_bytes
            total += other.layers * copies * self._entries(other, tokens) * each
        return total

    @staticmethod
    def _entries(other: OtherLayers, tokens: float) -> float:
        kept = tokens if other.window_tokens is None else min(tokens, other.window_tokens)
        return kept / other.entry_tokens

    def _entry_bytes(self, other: OtherLayers) -> float:
        a_head = other.head_dim + (other.head_dim if other.v_head_dim is None else other.v_head_dim)
        return other.kv_heads * a_head * stored_bits(self.kv_cache) / 8

    def _passed_over(self, tokens: float) -> float:
        """What an indexer of the layers that are stated apart does not select [bytes]."""
        total = 0.0
        for other in self.model.other_layers:
            if other.selected_tokens is not None:
                beyond = self._entries(other, tokens) - other.selected_tokens / other.entry_tokens
                total += other.layers * self._copies(other.kv_heads) * max(0.0, beyond) * self._entry_bytes(other)
        return total

    @property
    def _states(self) -> float:
        """What recurrent layers keep of a sequence, however long it is [bytes]."""
        return float(sum(other.layers * other.state_bytes for other in self.model.other_layers))

    def _read_kv_bytes(self, tokens: float) -> float:
        sparse = self.model.sparse
        if sparse is None:
            written = self._states
            return self._crowding * (self._copied_bytes(tokens) + written - self._passed_over(tokens))
        selected = self._own_layers * self._token_bytes * min(tokens, sparse.tokens)
        index = self._index_layers * self._index_bytes * tokens
        apart = self._other_cache(tokens) - self._passed_over(tokens) + 2 * self._states
        return self._crowding * (self._copies(self.model.kv_heads) * (selected + index) + apart)

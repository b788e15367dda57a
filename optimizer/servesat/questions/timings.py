"""Timings of a card: streams, matmuls, launches and all-reduces, and the line through each."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from servesat.catalogue.chip import Chip
from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Floats
from servesat.core.errors import ServesatError

REPEATS = 21
"""Number of repeats of each timing."""

STREAMS = (64, 32, 16, 8)
"""The sizes of streams, as divisors of the card's memory: all exceed its cache."""

TOKENS = (1024, 2048, 4096, 8192)
"""Tokens of the matmuls."""

KERNELS = (50, 100, 200, 400)
"""Small kernels launched one after another."""

REDUCED_BYTES = tuple(2**power for power in range(14, 29, 2))
"""Sizes of the all-reduces: 16 KiB to 256 MiB."""

DTYPES = {"bf16": 2, "fp8": 1, "int8": 1}
"""The dtypes of matmuls, with their bytes."""

LARGEST_MATMUL = 1 / 4
"""Largest share of the memory that a matmul may take."""

ROUNDS = 50

UNSTEADY = 0.4
"""Timings are refused if half of them are further than this from their line, as a share of what was measured."""


class Device(Protocol):
    """The cards of a machine; every timing returns seconds, one for each of REPEATS repeats."""

    card: str
    driver: str
    library: str
    count: int
    memory_bytes: int

    def copy_s(self, size_bytes: int) -> Sequence[float]:
        """Read and write this many bytes."""

    def sum_s(self, size_bytes: int) -> Sequence[float]:
        """Read this many bytes and add them up."""

    def matmul_s(self, tokens: int, inputs: int, outputs: int, dtype: str) -> Sequence[float]:
        """Multiply [tokens, inputs] by [inputs, outputs]; empty if the card or the library does not support it."""

    def kernels_s(self, kernels: int) -> Sequence[float]:
        """Launch this many small kernels, each waiting for the one before."""

    def all_reduces_s(self, sizes_bytes: Sequence[int]) -> Sequence[Sequence[float]]:
        """All-reduce buffers of each size over all cards."""


def layer_matmuls(model: ModelSpec) -> dict[str, tuple[int, int]]:
    """The inputs and outputs of the matmuls of a layer: queries, keys and values; o; gate and up; down.

    With latent attention, the first projects to the latents; without a dense MLP, the last two are those of an expert.
    """
    if model.mla is None:
        attended = model.query_heads * model.head_dim
        projected = attended + 2 * model.kv_heads * model.head_dim
    else:
        attended = model.query_heads * model.mla.v_head_dim
        latents = (model.mla.q_lora_rank or model.query_heads * model.head_dim) + model.mla.kv_lora_rank
        projected = latents + model.mla.rope_head_dim
    width, hidden = model.d_model, model.d_ff
    if not hidden:
        assert model.moe is not None
        width, hidden = model.expert_width, model.moe.d_ff
    return {
        "qkv": (model.d_model, projected),
        "o": (attended, model.d_model),
        "gate_up": (width, (2 if model.gated_mlp else 1) * hidden),
        "down": (hidden, width),
    }


def line(work: Floats, seconds: Floats) -> tuple[float, float]:
    """t_0 and the slope of t = t_0 + slope · work with the least sum of |t / measured - 1|; shape [points] each.

    Fitted by reweighted least squares, so that an interrupted timing has little effect; through the origin if t_0 or
    the slope would be negative.
    """
    rows = np.stack([1 / seconds, work / seconds], axis=1)
    weight = np.ones(len(seconds))
    for _ in range(ROUNDS):
        (start, slope), *_ = np.linalg.lstsq(rows * weight[:, None], weight, rcond=None)
        weight = 1 / np.sqrt(np.maximum(np.abs(rows @ (start, slope) - 1), 1e-6))
    if start < 0 or slope <= 0:
        return 0.0, float(np.median(seconds / work))
    return float(start), float(slope)


def lines(what: str, work: Sequence[float], seconds: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """t_0 and the slope in each repeat; the times have shape [points, repeats].

    Raises ServesatError where the times are on no line.
    """
    measured, at = np.array(seconds), np.array(work)
    starts, slopes = np.array([line(at, repeat) for repeat in measured.T]).T
    off = np.abs((starts + slopes * at[:, None]) / measured - 1)
    if np.median(off) > UNSTEADY:
        raise ServesatError(f"{what}: the times do not grow with the work; does something else run on the card?")
    return starts, slopes


class Timings:
    """What is timed on a device, at a chip's peaks; counts the timings."""

    def __init__(self, device: Device, chip: Chip) -> None:
        self.device, self.chip, self.count = device, chip, 0

    def bandwidth(self) -> Floats:
        """The share of the memory's bandwidth in each repeat: of the faster of copies and sums."""
        sizes = [self.device.memory_bytes // share for share in STREAMS]
        reached = []
        for times, moved in ((self.device.copy_s, 2), (self.device.sum_s, 1)):
            work = [moved * size / self.chip.hbm_bytes_per_s for size in sizes]
            _, slopes = lines("streams", work, [times(size) for size in sizes])
            reached.append(1 / slopes)
            self.count += len(sizes)
        return max(reached, key=np.median)

    def matmuls(self, model: ModelSpec, dtype: str) -> Floats | None:
        """The share of the peak of a dtype in each repeat: of matmuls that are not bound by the memory.

        None where nothing can be timed.
        """
        peak, size = self.chip.flop_per_s.by_dtype()[dtype], DTYPES[dtype]
        work, seconds = [], []
        for inputs, outputs in layer_matmuls(model).values():
            for tokens in TOKENS:
                flops_s = 2 * tokens * inputs * outputs / peak
                moved = size * (tokens * inputs + inputs * outputs) + 2 * tokens * outputs
                is_bound_by_memory = moved / self.chip.hbm_bytes_per_s > flops_s
                if is_bound_by_memory or moved > LARGEST_MATMUL * self.device.memory_bytes:
                    continue
                times = self.device.matmul_s(tokens, inputs, outputs, dtype)
                if len(times):
                    work.append(flops_s)
                    seconds.append(times)
        self.count += len(work)
        return None if len(work) < 2 else 1 / lines(f"{dtype} matmuls", work, seconds)[1]

    def launches(self) -> Floats:
        """The time of a small kernel in each repeat [s]."""
        self.count += len(KERNELS)
        return lines("launches", KERNELS, [self.device.kernels_s(kernels) for kernels in KERNELS])[1]

    def all_reduces(self) -> tuple[Floats, Floats]:
        """The latency of an all-reduce [s], and the share of the fastest link's bandwidth, in each repeat."""
        link, cards = max(axis.bytes_per_s for axis in self.chip.axes), self.device.count
        work = [2 * (cards - 1) / cards * size / link for size in REDUCED_BYTES]
        starts, slopes = lines("all-reduces", work, self.device.all_reduces_s(REDUCED_BYTES))
        self.count += len(work)
        return starts, 1 / slopes

"""The cards of this machine as PyTorch drives them: what `servesat measure` times."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servesat.core.errors import ServesatError
from servesat.questions.timings import REPEATS

WARM_UP = 3

AHEAD_CYCLES = 1_000_000
"""What the card waits before a timing, so that the host is done launching when it starts: half a millisecond."""

SMALL = 4096
"""Elements that a small kernel adds to."""

REDUCES = 20
"""All-reduces of a repeat, one after another."""


def open_device() -> "TorchDevice":
    """The machine's cards. Raises ServesatError without PyTorch, or where it sees no card."""
    try:
        import torch
    except ImportError:
        raise ServesatError(
            "servesat measure needs PyTorch on the machine with the accelerator: pip install torch"
        ) from None
    if not torch.cuda.is_available():
        raise ServesatError(
            f"PyTorch {torch.__version__} sees no accelerator: run it on a machine with a GPU and its driver, "
            "with the build of torch for that GPU (CUDA or ROCm)"
        )
    kinds = {torch.cuda.get_device_name(card) for card in range(torch.cuda.device_count())}
    if len(kinds) > 1:
        raise ServesatError(f"cards of several kinds ({', '.join(sorted(kinds))}): show one kind to PyTorch")
    return TorchDevice("cuda")


class TorchDevice:
    """Cards of one kind; all but all-reduces are timed on the first. `cpu` drives the same calls without a card."""

    def __init__(self, kind: str, memory_bytes: int = 0, count: int = 1) -> None:
        """Memory and count are the driver's; of a `cpu` those stated."""
        import torch

        self.torch: Any = torch
        self.kind = kind
        self.library = f"torch {torch.__version__}"
        self.card, self.driver, self.memory_bytes, self.count = "cpu", "none", memory_bytes, count
        if kind == "cuda":
            self.card, self.driver = torch.cuda.get_device_name(0), _driver(torch)
            self.memory_bytes, self.count = int(torch.cuda.mem_get_info(0)[1]), torch.cuda.device_count()

    def copy_s(self, size_bytes: int) -> list[float]:
        """Copy a buffer into another."""
        source, target = self._floats(size_bytes), self._floats(size_bytes)
        return self._timed(lambda: target.copy_(source))

    def sum_s(self, size_bytes: int) -> list[float]:
        """Add up fp32 values."""
        return self._timed(self._floats(size_bytes).sum)

    def matmul_s(self, tokens: int, inputs: int, outputs: int, dtype: str) -> list[float]:
        """A matmul with the weights stored by output, as engines store them."""
        torch = self.torch
        try:
            left, right = self._operand(tokens, inputs, dtype), self._operand(outputs, inputs, dtype).t()
            if dtype == "fp8":
                one = torch.ones((), device=self.kind)
                return self._timed(
                    lambda: torch._scaled_mm(
                        left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
                    )
                )
            return self._timed(lambda: (torch._int_mm if dtype == "int8" else torch.mm)(left, right))
        except torch.cuda.OutOfMemoryError:
            raise ServesatError(f"{self.card} is out of memory: stop what else runs on it") from None
        except (RuntimeError, NotImplementedError, AttributeError):
            return []  # the card, or this version of torch, has no matmul in that dtype

    def kernels_s(self, kernels: int) -> list[float]:
        """Additions to one small tensor, launched as a graph, as engines launch a step."""
        torch, small = self.torch, self.torch.zeros(SMALL, device=self.kind)

        def add() -> None:
            for _ in range(kernels):
                small.add_(1.0)

        if self.kind != "cuda":
            return self._timed(add)
        add()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            add()
        return self._timed(graph.replay)

    def all_reduces_s(self, sizes_bytes: Sequence[int]) -> list[list[float]]:
        """All-reduces through NCCL, a process a card. Raises ServesatError where they fail."""
        import torch.multiprocessing

        with TemporaryDirectory() as folder:
            try:
                torch.multiprocessing.spawn(
                    _reduce, args=(self.kind, self.count, list(sizes_bytes), folder), nprocs=self.count
                )
            except (
                torch.multiprocessing.ProcessRaisedException,
                torch.multiprocessing.ProcessExitedException,
            ) as fault:
                reason = str(fault).strip().splitlines()[-1]
                raise ServesatError(f"all-reduces over {self.count} cards failed: {reason}") from None
            times: list[list[float]] = json.loads((Path(folder) / "times.json").read_text())
            return times

    def _floats(self, size_bytes: int) -> Any:
        try:
            return self.torch.ones(size_bytes // 4, dtype=self.torch.float32, device=self.kind)
        except self.torch.cuda.OutOfMemoryError:
            raise ServesatError(f"{self.card} is out of memory: stop what else runs on it") from None

    def _operand(self, rows: int, columns: int, dtype: str) -> Any:
        torch = self.torch
        if dtype == "int8":
            return torch.randint(-127, 128, (rows, columns), dtype=torch.int8, device=self.kind)
        values = torch.randn((rows, columns), dtype=self._wide(), device=self.kind)
        return values.to(self._eight_bits()) if dtype == "fp8" else values

    def _wide(self) -> Any:
        """bf16, or fp16 of cards before Ampere."""
        is_old = self.kind == "cuda" and not self.torch.version.hip and self.torch.cuda.get_device_capability(0)[0] < 8
        return self.torch.float16 if is_old else self.torch.bfloat16

    def _eight_bits(self) -> Any:
        """The fp8 of the card: AMD's own on the MI300 family."""
        is_own = self.torch.version.hip and self.torch.cuda.get_device_properties(0).gcnArchName.startswith("gfx94")
        return self.torch.float8_e4m3fnuz if is_own else self.torch.float8_e4m3fn

    def _timed(self, run: Callable[[], object]) -> list[float]:
        for _ in range(WARM_UP):
            run()
        return [_once(self.torch, self.kind, run) for _ in range(REPEATS)]


def _once(torch: Any, kind: str, run: Callable[[], object]) -> float:
    """The seconds of a run, between two events of a card."""
    if kind != "cuda":
        before = time.perf_counter()
        run()
        return time.perf_counter() - before
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(AHEAD_CYCLES)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _reduce(rank: int, kind: str, count: int, sizes_bytes: Sequence[int], folder: str) -> None:
    """One process of the all-reduces: the first writes the times."""
    import torch
    import torch.distributed

    if kind == "cuda":
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if kind == "cuda" else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    times = []
    for size in sizes_bytes:
        values = torch.zeros(size // 2, dtype=torch.bfloat16, device=kind)

        def reduce(values: Any = values) -> None:
            for _ in range(REDUCES):
                torch.distributed.all_reduce(values)

        for _ in range(WARM_UP):
            reduce()
        times.append([_once(torch, kind, reduce) / REDUCES for _ in range(REPEATS)])
    if rank == 0:
        (Path(folder) / "times.json").write_text(json.dumps(times))
    torch.distributed.destroy_process_group()


def _driver(torch: Any) -> str:
    """The version of the driver, or of the runtime that torch was built for where there is no nvidia-smi."""
    if torch.version.hip:
        return f"HIP {torch.version.hip}"
    if command := shutil.which("nvidia-smi"):
        query = [command, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return f"NVIDIA {done.stdout.strip()}"
    return f"CUDA {torch.version.cuda}"

"""Measurement: the constants of a stub card are found again under noise, and what a card cannot do is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servesat import ServesatError
from servesat.catalogue.load import load_calibration, load_chip, load_model
from servesat.questions.measure import Measured, calibration_text, chip_of, measure
from servesat.questions.timings import REPEATS, Device

KNOWN = load_calibration()
H200 = load_chip("h200")
TRUE = {"weights": 0.9, "flops": 0.7, "fp8": 0.6, "int8": 0.5, "launch_s": 2.5e-6, "collective_s": 1.2e-5, "link": 0.8}
START_S = 4e-6


class Stub:
    """A card with the true constants: 2 % of noise, and a tenth of the times up to three times too long."""

    def __init__(self, **changes: Any) -> None:
        self.card, self.driver, self.library, self.count = "NVIDIA H200", "NVIDIA 1.2", "torch 9.9", 1
        self.memory_bytes = 150_000_000_000
        self.true = dict(TRUE)
        self.random = np.random.default_rng(0)
        self.__dict__.update(changes)

    def times(self, seconds: float) -> list[float]:
        noise = np.exp(0.02 * self.random.standard_normal(REPEATS))
        held_up = np.where(self.random.random(REPEATS) < 0.1, 1 + 2 * self.random.random(REPEATS), 1)
        return [float(time) for time in seconds * noise * held_up]

    def copy_s(self, size_bytes: int) -> Sequence[float]:
        return self.times(START_S + 2 * size_bytes / (4.8e12 * self.true["weights"]))

    def sum_s(self, size_bytes: int) -> Sequence[float]:
        return self.times(START_S + size_bytes / (4.8e12 * 0.8))

    def matmul_s(self, tokens: int, inputs: int, outputs: int, dtype: str) -> Sequence[float]:
        peak, name = (989e12, "flops") if dtype == "bf16" else (1979e12, dtype)
        return self.times(START_S + 2 * tokens * inputs * outputs / (peak * self.true[name]))

    def kernels_s(self, kernels: int) -> Sequence[float]:
        return self.times(START_S + kernels * self.true["launch_s"])

    def all_reduces_s(self, sizes_bytes: Sequence[int]) -> Sequence[Sequence[float]]:
        ways = 2 * (self.count - 1) / self.count
        return [
            self.times(self.true["collective_s"] + ways * size / (450e9 * self.true["link"])) for size in sizes_bytes
        ]


class NoEightBits(Stub):
    """A card, or a library, without 8-bit matmuls."""

    def matmul_s(self, tokens: int, inputs: int, outputs: int, dtype: str) -> Sequence[float]:
        return super().matmul_s(tokens, inputs, outputs, dtype) if dtype == "bf16" else []


def of(device: Device, model: str = "qwen3-32b") -> Measured:
    return measure(device, H200, load_model(model), lambda _: None)


def test_constants_are_found_from_times_with_noise_and_interruptions() -> None:
    found = of(Stub(count=8))
    medians = {name: constant.median for name, constant in found.constants.items()}
    expected = {name: value for name, value in TRUE.items() if name not in {"fp8", "int8"}}
    assert medians == pytest.approx(expected, rel=0.04)
    dtypes = {dtype: constant.median for dtype, constant in found.dtypes.items()}
    assert dtypes == pytest.approx({"fp8": 0.6 / 0.7, "int8": 0.5 / 0.7}, rel=0.03)
    assert all(one.low < one.median < one.high for one in found.constants.values())
    assert found.notes == []
    assert found.timings == REPEATS * (2 * 4 + 3 * 4 * 4 + 4 + 8)


def test_one_card_says_nothing_of_links() -> None:
    found = of(Stub())
    assert set(found.constants) == {"weights", "flops", "launch_s"}
    assert found.notes == [
        "link and collective_s are not measured: that takes several cards with a link in the catalogue"
    ]


def test_a_dtype_that_cannot_be_timed_is_named() -> None:
    found = of(NoEightBits())
    assert found.dtypes == {}
    assert found.notes[0] == "fp8 is not measured: torch 9.9 multiplies nothing of qwen3-32b in it here"


def test_a_little_more_than_a_peak_counts_as_the_peak_and_is_said() -> None:
    found = of(Stub(true=TRUE | {"flops": 1.1}))
    assert found.constants["flops"].median == 1
    assert "bf16 reaches 1.10 of the peak of h200, and counts as 1" in found.notes
    with pytest.raises(ServesatError, match=r"bf16 reaches 2.00 of the peak of h200: this is another card"):
        of(Stub(true=TRUE | {"flops": 2.0}))


def test_times_of_a_busy_card_are_refused() -> None:
    class Busy(Stub):
        def kernels_s(self, kernels: int) -> Sequence[float]:
            return [float(time) for time in self.random.lognormal(0, 3, REPEATS)]

    with pytest.raises(ServesatError, match=r"launches: the times do not grow with the work; does something else run"):
        of(Busy())


def test_a_model_without_a_matmul_that_fits_is_refused() -> None:
    with pytest.raises(ServesatError, match=r"no bf16 matmul of qwen2.5-0.5b can be timed that is bound by FLOPs"):
        of(Stub(memory_bytes=8_000_000), "qwen2.5-0.5b")


def test_a_card_is_the_chip_of_its_name_or_the_one_stated() -> None:
    assert chip_of(Stub(), None).id == "h200"
    assert chip_of(Stub(card="Graphics Device"), "h200").id == "h200"


@pytest.mark.parametrize(
    ("card", "chip", "message"),
    [
        ("Graphics Device", None, "card 'Graphics Device' is not in the catalogue's list of cards: name its chip"),
        ("NVIDIA H200", "h20O", "--chip h20O: no such chip; did you mean 'h20' or"),
        ("NVIDIA H200", "h100-sxm", r"NVIDIA H200 has 150.0 GB, and h100-sxm 85.5: expected a whole card of that chip"),
    ],
)
def test_a_card_of_no_certain_chip_is_refused(card: str, chip: str | None, message: str) -> None:
    with pytest.raises(ServesatError, match=message):
        chip_of(Stub(card=card), chip)


def test_a_calibration_holds_what_was_measured_and_the_catalogue_s_of_all_else(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(calibration_text(of(Stub()), KNOWN, "mine"))
    mine = load_calibration(str(path))
    chip, is_calibrated = mine.chip("h200")
    assert is_calibrated
    assert (chip.weights, chip.flops) == pytest.approx((0.9, 0.7), rel=0.04)
    before = KNOWN.chips["h200"]
    assert (chip.kv_cache, chip.link, chip.collective_s) == (before.kv_cache, before.link, before.collective_s)
    assert (mine.stacks, mine.experts, mine.draft_s) == (KNOWN.stacks, KNOWN.experts, KNOWN.draft_s)
    assert set(mine.dtypes) == {"fp8", "int8", "nvfp4"}
    card = mine.measured["h200"]
    assert (card.card, card.driver, card.library, card.cards) == ("NVIDIA H200", "NVIDIA 1.2", "torch 9.9", 1)
    assert card.spread["weights"].low < 0.9 < card.spread["weights"].high * 1.04
    assert "servesat measure on NVIDIA H200" in mine.sources["default"]

"""Calibrations: which constants stand for a chip and for a version of an engine."""

from servesat.catalogue.load import chip_ids, load_calibration

OURS = load_calibration()


def test_chips_are_of_the_catalogue_and_within_their_peaks() -> None:
    assert set(OURS.chips) <= set(chip_ids())
    assert all(chip.rows > 0 for chip in OURS.chips.values())
    assert "benchmarks/calibrate.py" in OURS.sources["default"]


def test_an_unmeasured_chip_takes_the_default_and_says_so() -> None:
    assert OURS.chip("h200") == (OURS.chips["h200"], True)
    assert OURS.chip("l4") == (OURS.default_chip, False)


def test_an_engine_takes_its_version_or_the_nearest() -> None:
    exact, known = OURS.stack("vllm", "0.19.0", "InferenceMAX")
    assert (exact.version, known) == ("0.19.0", True)
    assert exact.name == "vllm 0.19.0"
    nearest, known = OURS.stack("vllm", "0.32.0", "")
    assert (nearest.version, known) == ("0.19.0", False)
    between, _ = OURS.stack("vllm", "0.17.2", "")
    assert between.version == "0.17.0"
    few = next(stack for stack in OURS.stacks if (stack.program, stack.version) == ("sglang", "0.5.7"))
    assert few.rows < 10
    assert OURS.stack("sglang", "0.5.7")[0] == few
    assert OURS.stack("sglang", "0.5.6")[0].version == "0.5.9"  # not the nearest, of nine rows on MI300X
    assert OURS.stack("vllm", "", "InferenceMAX")[0].harness == "InferenceMAX"
    assert OURS.stack("mlc", "1", "") == (OURS.default_stack, False)


def test_a_row_without_a_version_takes_its_harness_or_what_was_measured_most() -> None:
    at_a_rate, known = OURS.stack("sglang", "", "at a rate")
    assert (at_a_rate.harness, known) == ("at a rate", True)
    other, known = OURS.stack("sglang", "", "")
    assert (other.version, known) == ("0.5.1.post1", False)
    assert other.rows == max(stack.rows for stack in OURS.stacks if stack.program == "sglang" and stack.version)


def test_the_ideal_machine_reaches_every_peak() -> None:
    ideal = load_calibration("ideal")
    assert ideal.chip("h200")[0].weights == ideal.chip("h200")[0].flops == 1.0
    assert ideal.stack("vllm", "0.19.0", "")[0].step_s == 0.0

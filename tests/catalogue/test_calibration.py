"""Calibrations: which constants stand for a chip and for a version of an engine."""

from servesat.catalogue.load import chip_ids, load_calibration

OURS = load_calibration()


def test_chips_are_of_the_catalogue_and_within_their_peaks() -> None:
    assert set(OURS.chips) <= set(chip_ids())
    assert all(chip.rows > 0 for chip in OURS.chips.values())
    assert "benchmarks/calibrate.py" in OURS.sources["default"]


def test_an_unmeasured_chip_takes_the_default_and_says_so() -> None:
    assert OURS.chip("h200") == (OURS.chips["h200"], True)
    assert OURS.chip("l40s") == (OURS.default_chip, False)


def test_an_engine_takes_its_version_or_the_nearest() -> None:
    exact, known = OURS.stack("vllm", "0.19.0", "InferenceMAX")
    assert (exact.version, known) == ("0.19.0", True)
    assert exact.name == "vllm 0.19.0"
    nearest, known = OURS.stack("vllm", "0.32.0", "")
    assert (nearest.version, known) == ("0.19.0", False)
    between, _ = OURS.stack("vllm", "0.17.0", "")
    assert between.version in {"0.16.0", "0.18.0"}
    assert OURS.stack("vllm", "", "InferenceMAX")[0].harness == "InferenceMAX"
    assert OURS.stack("mlc", "1", "") == (OURS.default_stack, False)


def test_the_ideal_machine_reaches_every_peak() -> None:
    ideal = load_calibration("ideal")
    assert ideal.chip("h200")[0].weights == ideal.chip("h200")[0].flops == 1.0
    assert ideal.stack("vllm", "0.19.0", "")[0].step_s == 0.0

from servesat.candidates.enumeration import decode_layouts
from servesat.candidates.rule import mask_of
from servesat.candidates.screening import undominated_layouts, valid_layouts
from tests.helpers import searching, toy_chip, toy_spec

EVERY = {"weights": ["bf16", "fp8", "int8"], "kv_cache": ["bf16", "int8", "int4"], "compute": ["bf16", "int8"]}


def dtypes_left(relaxed: int = 0, **search: object) -> set[tuple[str, ...]]:
    chip = toy_chip(flop_per_s={"bf16": 1e15, "int8": 2e15})
    spec = toy_spec(chip, search={"modes": ["decode_only"], **EVERY, **search})
    kept = undominated_layouts(spec, relaxed)
    return {kept.dtypes[row][:3] for row in kept.dtype}


def test_of_dtypes_with_equal_figures_the_first_stays_with_the_narrowest_cache() -> None:
    # fp8 weights are as large as int8 ones, and come first by name; bf16 weights are too wide for int8 matmuls
    assert dtypes_left() == {("bf16", "int4", "bf16"), ("fp8", "int4", "bf16"), ("fp8", "int4", "int8")}


def test_what_is_relaxed_may_be_violated() -> None:
    assert ("bf16", "int4", "int8") in dtypes_left(mask_of("dtypes"))


def test_where_accuracy_has_a_limit_all_dtypes_stay() -> None:
    assert len(dtypes_left(max_quality_loss=0.5)) == 3 * 3 * 2 - 3  # all but bf16 weights in int8 matmuls


def test_valid_layouts_split_the_model_evenly() -> None:
    spec = searching(topologies={"tpu-v5e": ["16x16"]})  # 256 ways over 64 query heads do not divide
    assert set(decode_layouts(spec).tp.tolist()) == {1, 16, 256}
    assert set(valid_layouts(spec).tp.tolist()) == {1, 16}

import pytest

from servesat.spec.expression_parser import parse
from servesat.spec.expression_signs import easier


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("tpot_ms + 2 * ttft_ms <= 20", {"tpot_ms": -1, "ttft_ms": -1}),
        ("chips > 3 - slices", {"chips": 1, "slices": 1}),
        ("chips <= 2 * slices", {"chips": -1, "slices": 1}),
        ("-3 * chips / 2 >= -30", {"chips": -1}),
        ("batch * tp <= 64", {"batch": -1, "tp": -1}),
        ("(batch - tp) * pp <= 64", {"batch": 0, "tp": 0, "pp": 0}),
        ("batch % 8 >= 4", {"batch": 0}),
        ("tp == 8", {"tp": 0}),
        ("chip != h100-sxm or tp >= 2", {"chip": 0, "tp": 1}),
        ("chips >= 8 implies tpot_ms <= 5", {"chips": -1, "tpot_ms": -1}),
        ("chips >= 2 and chips <= 4", {"chips": 0}),
        ("not kv_replicated", {"kv_replicated": -1}),
    ],
)
def test_the_way_in_which_a_constraint_is_easier_to_keep(text: str, signs: dict[str, int]) -> None:
    found = easier(parse(text, {"h100-sxm"}).tree)
    assert {name.id: sign for name, sign in found.items()} == signs

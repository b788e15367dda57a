import pytest

from servesat.spec.expression_parser import parse
from servesat.spec.expressions import ExpressionError

TEXTS = {"h100-sxm", "h200", "fp8", "aws", "spot", "tpu-v5e"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("batch", "has 'batch' where a condition was expected"),
        ("batch ==", "is not an expression; expected one such as batch % 8 == 0"),
        ("batch == 8)", "has a ')' too many"),
        ("(batch == 8", "has a '(' too many"),
        ("batc == 8", "names 'batc'; did you mean 'batch'?"),
        ("chip == h100", "names 'h100'; did you mean 'h100-sxm' or 'h200'?"),
        ("qqqq == 8", "names 'qqqq'; a constraint may name chip, cloud,"),
        ("chip < 3", "compares a text with a text by <"),
        ("batch == aws", "compares a number with a text by =="),
        ("chip + 1 == 2", "has a text + a number, expected numbers"),
        ("tpot_ms % 3 == 0", "has a % of something other than counts and a whole number above 0"),
        ("batch % tp == 0", "expected a number other than 0 after"),
        ("batch / 0 == 1", "expected a number other than 0 after"),
        ("tpot_ms * tpot_ms < 4", "multiplies a figure by something other than a number"),
        ("batch % 8 == 9", "is never true"),
        ("tp < 1", "is never true"),
        ("not (batch >= 0)", "is never true"),
        ("1 == 2 or 3 > 4", "is never true"),
        ("batch <= 1e400", "has inf, expected 0 or a number between 1e-12 and 1e+12"),
        ("chip in h200", "after in, expected a list"),
        ("batch is 3", "names 'is'"),
        ("lambda: 1", "names 'lambda'"),
        ("batch == 8; tp == 1", "has ';', which means nothing here"),
        ("__import__('os')", "names '__import__'"),
        ("kv_replicated < true", "compares truth values by <, expected == or !="),
        ("batch == 1" + " or batch == 1" * 80, "has 1130 characters, expected at most 1000"),
        ("(" * 300 + "tp == 1" + ")" * 300, "is not an expression"),
        ("batch" + "+1" * 490 + " > 1", "is nested more than 100 deep"),
        ("-" * 990 + "1 < batch", "is nested more than 100 deep"),
        ("batch <= 1e+22", "has 1e+22, expected 0 or a number between 1e-12 and 1e+12"),
    ],
)
def test_what_a_constraint_cannot_mean_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as fault:
        parse(text, TEXTS)
    assert complaint in str(fault.value)


@pytest.mark.parametrize("text", ["(batch / 2) % 3 > 2", "(batch / 2) % 3 <= 2", "batch % 8 == 7"])
def test_what_holds_for_some_plans_is_a_constraint(text: str) -> None:
    """Of batch 5 the rest is 2.5."""
    assert parse(text, TEXTS).text == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("4 <= batch <= 64", "4 <= batch and batch <= 64"),
        ("chip not in [h200, tpu-v5e]", "not (chip == h200 or chip == tpu-v5e)"),
        ("tp == 1 implies ep == 1 implies batch == 2", "not tp == 1 or (not ep == 1 or batch == 2)"),
        ("(tp == 1 implies ep == 1) and batch == 2", "(not tp == 1 or ep == 1) and batch == 2"),
        ("batch-8 == tp", "batch - 8 == tp"),
        ("chip == 'h200'", "chip == h200"),
        ("topology == '8'", "topology == 8"),
        ("batch <= 1e+2", "batch <= 100"),
        ("kv_replicated == False", "kv_replicated == false"),
        ("batch == 2 * 4 + 1", "batch == 9"),
    ],
)
def test_one_meaning_written_in_two_ways(text: str, same: str) -> None:
    assert parse(text, TEXTS).tree == parse(same, TEXTS).tree

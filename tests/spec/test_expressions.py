from servesat.spec.expression_parser import parse
from servesat.spec.expressions import Level, limit_in

TEXTS = {"h100-sxm", "h200", "fp8", "aws", "spot", "tpu-v5e"}


def test_a_constraint_knows_what_it_names_and_what_fixes_it() -> None:
    expression = parse("tpot_ms <= 0.5 * slo.tpot_ms and prefill.chip == chip", TEXTS)
    assert [name.id for name in expression.names] == ["tpot_ms", "prefill.chip", "chip"]
    assert (expression.keys, expression.level) == (("slo.tpot_ms",), Level.FIGURE)
    assert parse("tp <= 8", TEXTS).level is Level.LAYOUT
    assert parse("batch == 4 * tp", TEXTS).level is Level.BATCH


def test_a_limit_is_a_comparison_with_a_constant() -> None:
    bound = limit_in(parse("20 >= 2 * tpot_ms", TEXTS))
    assert bound is not None
    assert (bound.said, bound.at_least) == ("2 * tpot_ms <=", False)
    for text, said in (
        ("(tp <= 4)", "tp <="),
        ("4 >= (tp - 1) * 2", "(tp - 1) * 2 <="),
        ("tpot_ms * 0.5 >= 3", "tpot_ms * (1/2) >="),
    ):
        bound = limit_in(parse(text, TEXTS))
        assert bound is not None
        assert bound.said == said
    assert limit_in(parse("tp == 8", TEXTS)) is None
    assert limit_in(parse("batch <= 4 * tp", TEXTS)) is None

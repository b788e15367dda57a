import json

from tests.cli.commands import run


def test_book_prints_every_claim_and_problem() -> None:
    text = run("book").stdout
    assert "148 claims: 117 holds, 19 seed error, 1 assumption, 11 answered here" in text
    assert "Worked problem 3: LLaMA 3-405B under 15 ms" in text
    document = json.loads(run("book", "--json").stdout)
    assert len(document["claims"]) == 148
    under = document["worked_problems"]["under_15_ms"]
    assert len(under) == 24
    assert under[2]["plan"]["batch"] == 88

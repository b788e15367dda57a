import json

from tests.cli.commands import run


def test_book_of_a_group_a_document_or_errata() -> None:
    every = json.loads(run("book", "--json").stdout)["claims"]
    of_article = json.loads(run("book", "--document", "article", "--json").stdout)["claims"]
    assert of_article == [claim for claim in every if "article" in claim["documents"].split("+")]
    both = json.loads(run("book", "--group", "KV cache", "--document", "article", "--json").stdout)["claims"]
    assert both == [claim for claim in of_article if claim["group"] == "KV cache"]
    wrong = [claim for claim in every if claim["verdict"] == "seed-error"]
    lines = run("book", "--errata").stdout
    assert lines.count(" is printed, ") == len(wrong) > 0
    assert "step" not in run("book", "--group", "hardware").stdout
    refused = run("book", "--group", "hardwares")
    assert (refused.exit_code, "did you mean 'hardware'?" in refused.stderr) == (1, True)


def test_book_prints_every_claim_and_problem() -> None:
    text = run("book").stdout
    assert "148 claims: 117 holds, 19 erratum, 1 assumption, 11 answered here" in text
    assert "Worked problem 3: LLaMA 3-405B under 15 ms" in text
    document = json.loads(run("book", "--json").stdout)
    assert len(document["claims"]) == 148
    under = document["worked_problems"]["under_15_ms"]
    assert len(under) == 24
    assert under[2]["plan"]["batch"] == 88

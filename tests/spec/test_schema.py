"""The schemas that editors read: as printed, and true of every example."""

import json
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from tests.cli.commands import run
from tests.helpers import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
KINDS = ("spec", "fleet", "portfolio")


def shipped(kind: str) -> Any:
    return json.loads((ROOT / "examples" / "schema" / f"{kind}.json").read_text())


@cache
def validator(kind: str) -> Draft202012Validator:
    """The schema shipped, checked once."""
    Draft202012Validator.check_schema(shipped(kind))
    return Draft202012Validator(shipped(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_shipped_is_the_one_printed(kind: str) -> None:
    assert json.loads(run("schema", kind).stdout) == shipped(kind)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_names_its_schema_and_keeps_to_it(path: Any) -> None:
    text = path.read_text()
    kind = path.stem.partition("-")[0]
    kind = kind if kind in KINDS else "spec"
    assert text.splitlines()[0] == f"# yaml-language-server: $schema=schema/{kind}.json"
    validator(kind).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": ["vllm", "sglang"], "slo": {"ttft_ms": {"p99": 800}}, "search": {"weights": "fp8"}},
        {"workload": {"arrivals": {"trace": "x.csv"}}, "cost_model": "mine.toml", "price_book": "all"},
        {"model": {"name": "mine", "layers": 2, "d_model": 8, "query_heads": 2, "kv_heads": 1, "head_dim": 4,
                   "d_ff": 16, "vocab_size": 100}},
    ],
)  # fmt: skip
def test_what_may_be_written_is_allowed(changes: dict[str, Any]) -> None:
    spec = {"model": "llama-3-8b", "workload": {"prompt_tokens": 10, "output_tokens": 5, "requests_per_s": 1}}
    validator("spec").validate(spec | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"slos": {}}, {"slo": {"ttft_ms": -1}}, {"slo": {"tpot": 5}}, {"search": {"weights": ["fp9"]}},
        {"workload": {"prompt_tokens": "ten"}}, {"buy": "half"}, {"cost_model": 3},
    ],
)  # fmt: skip
def test_mistakes_are_seen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validator("spec").validate({"model": "llama-3-8b", "workload": {"context_tokens": 1}} | changes)

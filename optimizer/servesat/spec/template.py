"""A spec to start from, with what else it may say."""

import json
import re
from dataclasses import dataclass

_PLAIN = re.compile(r"[A-Za-z./][A-Za-z0-9._/-]*$")


@dataclass(frozen=True, kw_only=True)
class Beginnings:
    """What a spec starts from: the model, its requests, their rate, their limits, and the clouds; None is no limit."""

    model: str
    prompt_tokens: int
    output_tokens: int
    requests_per_s: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    clouds: tuple[str, ...] = ()


def spec_template(given: Beginnings) -> str:
    """The text of a spec, with comments; every key that is commented out can be put in."""
    return f"""\
# A deployment to plan: `servesat solve` finds the cheapest way to serve it. docs/reference/spec.md has every key.
# Editors complete the keys after `servesat schema spec > schema.json`, with this as the first line of the file:
# # yaml-language-server: $schema=schema.json
model: {_text(given.model)}  # an id of `servesat models`, or the path of a model file or of a config.json

workload:
  prompt_tokens: {given.prompt_tokens}
  output_tokens: {given.output_tokens}
{_line("requests_per_s", given.requests_per_s, "20", "the demand; without one, the cost is at full load")}
  # prefix_cache_hit: 0.5  # share of the prompt whose KV cache is there already

{_limits(given)}

{_clouds(given.clouds)}
# region: us-east-1
# purchase: [on_demand, spot]  # default: on_demand

# engine: vllm  # default: any of vllm, sglang, trtllm and vllm-tpu
# search:
#   chips: [h100-sxm, h200]  # default: every chip with a price
#   weights: [bf16, fp8]  # default: what the engines run without much loss
#   max_usd_per_hour: 50
"""


def _limits(given: Beginnings) -> str:
    """The service levels; the whole of them commented out where there are none."""
    share = (
        "95 % of the requests are within each limit"
        if given.requests_per_s is not None
        else "limits on the mean of the requests"
    )
    lines = [
        f"slo:  # {share}",
        _line("ttft_ms", given.ttft_ms, "500", "time to the first token"),
        _line("tpot_ms", given.tpot_ms, "40", "time for each token after it, on average"),
    ]
    if given.ttft_ms is None and given.tpot_ms is None:
        lines = [line.replace("  # ", "#   ", 1) if line.startswith("  # ") else f"# {line}" for line in lines]
    return "\n".join(lines)


def _line(key: str, value: float | None, example: str, comment: str) -> str:
    """A key with its value, or commented out with an example."""
    return f"  # {key}: {example}  # {comment}" if value is None else f"  {key}: {value:.15g}  # {comment}"


def _clouds(clouds: tuple[str, ...]) -> str:
    comment = "where it may be rented; default: at any cloud of `servesat prices`"
    return f"cloud: [{', '.join(map(_text, clouds))}]  # {comment}" if clouds else f"# cloud: [aws, gcp]  # {comment}"


def _text(value: str) -> str:
    """A text in YAML, quoted where it has to be."""
    return value if _PLAIN.match(value) else json.dumps(value, ensure_ascii=False)

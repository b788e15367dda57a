"""CPU time and memory beside those of another commit, in one run: each case in turn on both, medians over the rounds.

    python benchmarks/paired.py --baseline f4b53ea --rounds 5
    python benchmarks/paired.py --baseline f4b53ea --growth docs/images/performance.png

Every case has a process of its own, which runs it once to warm up. CPU time counts, as other work shares the machine.
The table in docs/performance.md comes from here.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servesat import Spec
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from servesat.questions.scenarios import Factor, Scenarios
from servesat.questions.whatif import Question

ROOT = Path(__file__).parents[1]
IDEAL = {"cost_model": "ideal", "price_book": "list-2026-11"}
DTYPES = ["bf16", "int8", "fp8", "int4", "mxfp4", "nvfp4"]
EVERY_DTYPE = {"search.weights": DTYPES, "search.kv_cache": DTYPES[:4], "search.compute": DTYPES}
CATALOGUE = {**IDEAL, "model": "llama-3-70b", "workload": {"context_tokens": 8192}, "slo": {"tpot_ms": 50}}
REQUESTS = {**CATALOGUE, "workload": {"prompt_tokens": 8192, "output_tokens": 512}}
CHAT = {
    **IDEAL,
    "model": "llama-3-70b",
    "workload": {"prompt_tokens": 1024, "output_tokens": 256},
    "slo": {"tpot_ms": 30},
}
COLD = ["solve", "examples/llama-3-405b-under-15ms.yaml"]

Measured = dict[str, float]


def repeated(action: Callable[[], object], runs: int) -> Measured:
    """Median CPU milliseconds of an action, and the peak memory of this process."""
    action()
    taken = []
    for _ in range(runs):
        start = time.process_time()
        action()
        taken.append((time.process_time() - start) * 1e3)
    return {"ms": statistics.median(taken), "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def whatif(document: dict[str, Any], chip: str, count: int) -> Measured:
    """Milliseconds a scenario, of half as many latency limits at two prices, on one core."""
    limits = tuple(10 + 60 * number / count for number in range(count // 2))
    factors = Factor("slo.tpot_ms", limits), Factor(f"price.{chip}", (0.9, 1.2))
    question = Question(Spec.load(document), Scenarios(factors))
    assert question.answer.plan is not None
    measured = repeated(lambda: [*question.rows(range(count))], 1)
    return {**measured, "ms": measured["ms"] / count}


def searched(document: dict[str, Any], changes: dict[str, Any], **options: Any) -> Measured:
    """A solve, or with `top` an answer with explanations."""
    spec = Spec.load(document).changed(changes)
    return repeated(lambda: answer(spec, **options) if options else solve(spec), 5)


ONE_CHIP = {**IDEAL, "model": "llama-3-70b", "workload": {"context_tokens": 8192}, "search": {"chips": ["tpu-v5e"]}}
CASES: dict[str, Callable[[], Measured]] = {
    "solve, every chip, default dtypes": lambda: searched(CATALOGUE, {}),
    "solve, every chip and dtype": lambda: searched(CATALOGUE, EVERY_DTYPE),
    "solve, whole requests, every chip and dtype": lambda: searched(REQUESTS, EVERY_DTYPE),
    "solve, DeepSeek-V3, every chip and dtype": lambda: searched(CATALOGUE, {"model": "deepseek-v3", **EVERY_DTYPE}),
    "solve, DeepSeek-V3, whole requests": lambda: searched(REQUESTS, {"model": "deepseek-v3", **EVERY_DTYPE}),
    "top 5, explained, every chip and dtype": lambda: searched(CATALOGUE, EVERY_DTYPE, top=5),
    "a scenario, one chip": lambda: whatif(ONE_CHIP, "tpu-v5e", 1000),
    "a scenario, every chip": lambda: whatif(CHAT, "tpu-v5e", 100 if os.environ.get("FEW") else 1000),
    "a scenario, every chip and dtype": lambda: whatif(
        CHAT | {"search": {"weights": DTYPES[:4], "kv_cache": DTYPES[:4], "compute": DTYPES[:3]}},
        "tpu-v5e",
        20 if os.environ.get("FEW") else 1000,
    ),
}
LAYOUTS = {f"{chips} chips": chips for chips in (1, 2, 4, 8, 16, 21)}
SCENARIOS = (10, 30, 100, 300, 1000, 3000)


def grown(chips: int) -> Measured:
    """A search over so many chips, in every dtype and mode."""
    spec = Spec.load(REQUESTS).changed({"model": "deepseek-v3", **EVERY_DTYPE})
    return searched(REQUESTS, {"model": "deepseek-v3", **EVERY_DTYPE, "search.chips": list(spec.chips[:chips])})


def cold(root: Path) -> Measured:
    """A command from start to end."""
    program = "from servesat.cli import app; app()"
    child = subprocess.Popen(
        [sys.executable, "-c", program, *COLD], stdout=subprocess.DEVNULL, env=using(root), cwd=ROOT
    )
    _, code, used = os.wait4(child.pid, 0)
    child.returncode = code
    assert code == 0
    return {"ms": (used.ru_utime + used.ru_stime) * 1e3, "MB": used.ru_maxrss / 1e3}


def using(root: Path, **more: str) -> dict[str, str]:
    """The environment of a process that imports the package of a checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(root / "optimizer"), **more}


def measured(root: Path, case: str, **more: str) -> Measured:
    """A case in a process of its own, on the package of a checkout."""
    if case == "cold":
        return cold(root)
    command = [sys.executable, __file__, "--case", case]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=using(root, **more))
    found: Measured = json.loads(shown.stdout)
    return found


def table(baseline: Path, rounds: int) -> None:
    print("| | baseline | now | | baseline | now |\n|---|---|---|---|---|---|")
    for case in ("cold", *CASES):
        found: dict[Path, list[Measured]] = {baseline: [], ROOT: []}
        for _ in range(rounds):
            found[baseline].append(measured(baseline, case, FEW="1"))
            found[ROOT].append(measured(ROOT, case))
        ms, mb = ([statistics.median(one[unit] for one in each) for each in found.values()] for unit in ("ms", "MB"))
        name = "servesat solve, cold" if case == "cold" else case
        print(
            f"| {name} | {ms[0]:.1f} ms | {ms[1]:.1f} ms | {ms[0] / ms[1]:.1f} × | {mb[0]:.0f} MB | {mb[1]:.0f} MB |",
            flush=True,
        )


def growth(baseline: Path, out: str) -> None:
    """Draw time and memory against chips, and time against scenarios."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for name, root in (("baseline", baseline), ("now", ROOT)):
        of_chips = [measured(root, label) for label in LAYOUTS]
        axes[0].plot([*LAYOUTS.values()], [one["ms"] for one in of_chips], "o-", label=name)
        axes[1].plot([*LAYOUTS.values()], [one["MB"] for one in of_chips], "o-", label=name)
        counts = SCENARIOS[:4] if root == baseline else SCENARIOS
        of_counts = [measured(root, f"{count} scenarios")["ms"] * count / 1e3 for count in counts]
        axes[2].loglog(counts, of_counts, "o-", label=name)
    titles = {
        "chips of the search": "a solve [ms]",
        " chips of the search": "peak memory [MB]",
        "scenarios": "a grid [s]",
    }
    for axis, (x, y) in zip(axes, titles.items(), strict=True):
        axis.set(xlabel=x.strip(), ylabel=y)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="f4b53ea", help="A commit of this repository.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", metavar="FILE", help="Draw how time and memory grow instead.")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        growing: dict[str, Callable[[], Measured]] = {
            **{label: lambda chips=chips: grown(chips) for label, chips in LAYOUTS.items()},
            **{f"{count} scenarios": lambda count=count: whatif(CHAT, "tpu-v5e", count) for count in SCENARIOS},
        }
        print(json.dumps({**CASES, **growing}[arguments.case]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.baseline], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for root in (folder, ROOT):  # as an installed package is
            subprocess.run([sys.executable, "-m", "compileall", "-q", str(Path(root) / "optimizer")], check=True)
        if arguments.growth:
            growth(Path(folder), arguments.growth)
        else:
            table(Path(folder), arguments.rounds)


if __name__ == "__main__":
    main()

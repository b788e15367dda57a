"""What a Ray cluster of this machine costs an item, and how much faster two of its workers are than one.

Items that wait show what the hand-over costs, whatever else the machine does; scenarios need two free cores.

pip install -e '.[dev,ray]' && python benchmarks/cluster.py [--scenarios 10000]
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import ray

from servesat import Spec
from servesat.core.parallel.runs import Workers, as_finished, in_chunks
from servesat.questions.scenarios import Factor, Scenarios
from servesat.questions.whatif import Question

ROOT = Path(__file__).parents[1]
ITEMS = 2000
WAIT_S = 0.008
"""What an item waits, about as long as a scenario takes."""


def nothing(item: int) -> int:
    return item


def wait(chunk: range) -> int:
    time.sleep(WAIT_S * len(chunk))
    return len(chunk)


def s_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def overhead_s(on: str | None) -> float:
    """Seconds that an item takes beside its task, which is nothing, with two workers."""
    answers = as_finished(nothing, range(ITEMS), Workers(2, on), lambda item: item)
    next(answers)
    return s_of(lambda: sum(1 for _ in answers)) / (ITEMS - 1)


def one_and_two(run: Callable[[int], object]) -> dict[str, float]:
    """The seconds of a run with one worker and with two, and what the second gains."""
    one, two = (s_of(lambda workers=workers: run(workers)) for workers in (1, 2))
    return {"s with one worker": round(one, 1), "s with two": round(two, 1), "speed-up": round(one / two, 2)}


def figures_of(question: Question, on: str | None) -> dict[str, object]:
    items = range(len(question.scenarios))
    start = time.process_time()
    return {
        "overhead of an item, ms": round(1e3 * overhead_s(on), 2),
        "items that wait": one_and_two(lambda workers: list(in_chunks(wait, items, Workers(workers, on)))),
        "the driver's own s": round(time.process_time() - start, 2),
        "scenarios": one_and_two(lambda workers: list(question.rows(items, Workers(workers, on)))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", type=int, default=10_000)
    count = parser.parse_args().scenarios
    limits = tuple(5 + 35 * number / count for number in range(count // 2))
    factors = Factor("slo.tpot_ms", limits), Factor("price.tpu-v5e", (0.9, 1.2))
    question = Question(Spec.load(ROOT / "examples" / "llama-3-70b-on-v5e.yaml"), Scenarios(factors))
    assert question.answer.plan is not None
    start_s = s_of(lambda: ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"))
    first_s = s_of(lambda: list(question.rows(range(2), Workers(2, "ray"))))
    figures: dict[str, object] = {"cores": os.cpu_count(), "items": len(question.scenarios)}
    figures |= {"start, s": round(start_s, 1), "first items, s": round(first_s, 1)}
    figures |= {"loky": figures_of(question, None), "ray": figures_of(question, "ray")}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

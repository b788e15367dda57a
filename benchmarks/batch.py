"""A thousand small specs in one batch: seconds, and the memory of the process that writes the table.

python benchmarks/batch.py [--specs 1000]
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from typer.testing import CliRunner

from servesat.cli import app

MODELS = ("llama-3-8b", "llama-3-70b", "qwen3-32b")
CHIPS = ("tpu-v5e", "tpu-v6e", "h100-sxm", "l40s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specs", type=int, default=1000)
    count = parser.parse_args().specs
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            spec = {
                "cost_model": "ideal",
                "model": str(random.choice(MODELS)),
                "workload": {"context_tokens": int(random.choice([2048, 4096, 8192]))},
                "slo": {"tpot_ms": int(random.integers(8, 60))},
                "search": {"chips": random.choice(CHIPS, 2, replace=False).tolist()},
            }
            (Path(folder) / f"{number:06}.yaml").write_text(yaml.safe_dump(spec))
        start = time.perf_counter()
        code = CliRunner().invoke(app, ["batch", folder, "--out", f"{folder}/out.parquet"]).exit_code
        figure = {
            "specs": count,
            "exit_code": code,
            "seconds": round(time.perf_counter() - start, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        }
        print(json.dumps(figure))


if __name__ == "__main__":
    main()

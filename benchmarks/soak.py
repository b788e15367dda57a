"""The slow tests at length, and those that the gate leaves out: many more examples, from other seeds each time.

    python benchmarks/soak.py --times 20
    python benchmarks/soak.py --times 5 tests/fleet

Ends with the exit code of pytest; what fails is printed with the example that makes it fail.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=20, help="How many times as many examples as in the gate.")
    parser.add_argument("tests", nargs="*", default=["tests"], help="Files or folders of tests; all if left out.")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-n", "auto", "-m", "slow or soak", *arguments.tests]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # which would fix the seeds
    environment["SERVESAT_EXAMPLES"] = str(arguments.times * 0.3)  # which is what pytest draws by itself
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.fuzz --cases 5000 --seed 1`: malformed invocations; exit status 1 when one was not refused well."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.harness import one, small_run


def main() -> int:
    """Run the cases and print each finding, once a cause."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    causes: dict[str, int] = {}
    ended: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"BENCH_HOME": f"{name}/home", "BENCH_CACHE": f"{name}/cache"}
        os.chdir(name)
        run = small_run(Path(name))
        for number in range(asked.cases):
            status, found = one(asked.seed * 1_000_000 + number, run)
            ended[status] += 1
            if found is None:
                continue
            cause = "\n".join(found.problem.splitlines()[-4:])
            causes[cause] = causes.get(cause, 0) + 1
            if causes[cause] == 1:
                print(f"seed {found.seed}, {found.generator}: {found.arguments}\n{found.problem[-3000:]}", flush=True)
    print(
        f"{asked.cases} cases, {sum(causes.values())} findings of {len(causes)} causes; cases by exit status: "
        f"{dict(ended)}"
    )
    return 1 if causes else 0


sys.exit(main())

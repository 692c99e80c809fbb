"""`python -m tests.fuzz --cases 5000 --seeds 1,2,3`: malformed invocations; status 1 when one was not refused well."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.generators import GENERATORS
from tests.fuzz.harness import Case, one, prepare


def main() -> int:
    """Run the cases, print each finding once a cause, and a table of the generators."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200, help="of each seed")
    parser.add_argument("--seeds", default="0", help="numbers, comma-separated")
    parser.add_argument("--only", default=",".join(GENERATORS), help="generators, comma-separated")
    parser.add_argument("--apart", type=int, default=0, help="one case of as many is run in a process of its own")
    parser.add_argument("--folder", type=Path, help="keeps the finished run that is harmed, from one start to the next")
    parser.add_argument("--minutes", type=float, default=600.0, help="stops after so long, with what was done by then")
    asked = parser.parse_args()
    ends = time.monotonic() + 60 * asked.minutes
    done: list[Case] = []
    causes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        name = str((asked.folder or Path(made)).resolve())
        os.environ |= {"BENCH_HOME": f"{name}/home", "BENCH_CACHE": f"{name}/cache"}
        os.chdir(made)
        small = prepare(Path(name))
        for seed in map(int, asked.seeds.split(",")):
            for number in range(asked.cases):
                if time.monotonic() > ends:
                    break
                apart = asked.apart > 0 and number % asked.apart == 0
                case = one(seed * 1_000_000 + number, small, asked.only.split(","), apart)
                done.append(case)
                if case.problem:
                    cause = "\n".join(case.problem.splitlines()[-3:])
                    causes[cause] += 1
                    if causes[cause] == 1:
                        told = f"seed {case.seed}, {case.generator}: {case.words}"
                        print(f"{told[:1500]}\n{case.problem[-3000:]}\n", flush=True)
    _print_table(done, causes)
    return 1 if causes else 0


def _print_table(done: list[Case], causes: Counter[str]) -> None:
    heads = f"{'cases':>6} {'ended 0':>8} {'1':>6} {'2':>6} {'wrong':>6} {'ms a case':>10} {'longest s':>10}"
    print(f"{'generator':<15} {heads}")
    for name in GENERATORS:
        mine = [case for case in done if case.generator == name]
        if not mine:
            continue
        ended = Counter(case.status for case in mine)
        seconds = [case.seconds for case in mine]
        figures = [len(mine), ended[0], ended[1], ended[2], sum(bool(case.problem) for case in mine)]
        told = "".join(f" {figure:>{width}}" for figure, width in zip(figures, (6, 8, 6, 6, 6), strict=True))
        print(f"{name:<15}{told} {1000 * sum(seconds) / len(mine):>10.0f} {max(seconds):>10.1f}")
    print(f"{len(done)} cases, {sum(causes.values())} findings of {len(causes)} causes")


if __name__ == "__main__":
    sys.exit(main())

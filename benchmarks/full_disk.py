"""Let the disk run full at random moments of a command, free it, start the command again, and compare.

    python benchmarks/full_disk.py --moments 20 --out /tmp/full_disk

The command's folder is a tmpfs (mounted by root) whose size is drawn between nothing and what the command needs. It
must end in one sentence, without a traceback; with room again it must end as one that never lacked any, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from kill_kinds import kinds, prepare
from kill_resume import Victim

KINDS = ("fedavg", "full", "sweep-sqlite", "analyze", "report", "prepare", "audit")
_PLENTY = 256 << 20


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A tmpfs of the folder's own. Raises CalledProcessError for whoever may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_PLENTY}", "bench-full-disk", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, room: int) -> None:
    """Leave so many bytes of room beside what is there."""
    used = sum(-(-path.lstat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())
    subprocess.run(["mount", "-o", f"remount,size={used + room}", str(folder)], check=True)


def needed(folder: Path, base: Path) -> int:
    """Bytes that the command writes and keeps."""
    sizes = [sum(path.lstat().st_size for path in place.rglob("*") if path.is_file()) for place in (folder, base)]
    return sizes[0] - sizes[1]


def fill(victim: Victim, moments: int, seed: int) -> dict[str, Any]:
    """Run full so many times, each in an empty folder; what was said, and how many ended equal."""
    draw = random.Random(f"{seed} {victim.kind.name}")
    whole = victim.begin("whole")
    victim.finish(whole)
    expected, need = victim.kind.contents(whole), needed(whole, victim.root / "base")
    told: dict[str, Any] = {"kind": victim.kind.name, "full": 0, "equal": 0, "sentences": 0, "room": []}
    while told["full"] < moments:
        with small_disk(victim.root / "killed"):
            folder, room = victim.begin("killed"), draw.randrange(4096, max(8192, need))
            resize(folder, room)
            status = victim.start(folder, fresh=False).wait()
            if status == 0:
                continue  # the room was enough
            said = (victim.root / "last.log").read_text(errors="replace")
            told["room"].append(room)
            told["full"] += 1
            words = " ".join(said.split())
            named = "no space left" in words or "is full" in words
            sentence = status in (1, 2) and "Traceback" not in said and named
            told["sentences"] += sentence
            if not sentence:
                print(f"{victim.kind.name}, room {room}, status {status}: {said[-3000:]}", flush=True)
            resize(folder, _PLENTY)
            victim.finish(folder)
            told["equal"] += victim.kind.contents(folder) == expected
    return told


def main() -> int:
    """Print a line a kind; 0 when every end was a sentence and everything was equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--moments", type=int, default=20, help="spread over the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    out, names = asked.out.resolve(), asked.kinds.split(",")
    prepare(out)
    good = True
    for place, name in enumerate(names):
        moments = asked.moments // len(names) + (place < asked.moments % len(names))
        told = fill(Victim(kinds("")[name], out, ""), moments, asked.seed)
        good &= told["full"] == told["equal"] == told["sentences"]
        print(json.dumps(told), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

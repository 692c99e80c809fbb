"""Run a command in the one virtual environment that all tox environments share.

tox throws an environment away when another of its environments used the same folder, and torch is 5 GB. So the
folder is kept here: made once, installed into again only when pyproject.toml changes.

Usage: python tools/shared_env.py FOLDER COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def ensure(folder: Path) -> Path:
    """Make the environment up to date; return its folder of programs."""
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    stamp = folder / "installed"
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == state:
        return programs
    venv.create(folder, with_pip=True, clear=False)
    python = str(programs / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[dev,ray,postgresql]"], check=True, cwd=ROOT
    )
    stamp.write_text(state)
    return programs


def main() -> int:
    """Run the command with the environment's programs first."""
    programs = ensure(Path(sys.argv[1]))
    search = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    command = [str(programs / sys.argv[2]), *sys.argv[3:]]
    return subprocess.run(command, env={**os.environ, "PATH": search}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

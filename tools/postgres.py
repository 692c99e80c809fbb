"""A PostgreSQL server of one's own on loopback, made with Debian's programs, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class Postgres:
    """A fresh server that can be stopped and started; its folder goes when the block ends.

    Raises:
        RuntimeError: Debian's postgresql is not installed, or root cannot hand it to the account that it needs.
    """

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs or not (programs[-1] / "initdb").is_file():
            raise RuntimeError("Debian's postgresql is not installed")
        # The server refuses to run as root, so root hands it to the account that the package made.
        self._account = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._account and shutil.which("runuser") is None:
            raise RuntimeError("PostgreSQL does not run as root, and there is no runuser")
        self._programs = programs[-1]
        self._home = Path(tempfile.mkdtemp(prefix="bench-postgres-", dir="/tmp"))  # others' folders may be closed to it
        self._home.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    @property
    def url(self) -> str:
        """What `--storage` takes."""
        return f"postgresql+psycopg://bench@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Postgres:
        try:
            if self._account:
                shutil.chown(self._home, "postgres")
            self._run("initdb", "-A", "trust", "-U", "bench")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Start it on its port, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._home}"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self._home / "log"), "start")

    def stop(self) -> None:
        """End it with every connection, as an administrator's restart does."""
        self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def _run(self, program: str, *words: str, check: bool = True) -> None:
        command = [*self._account, str(self._programs / program), "-D", str(self._home / "data"), *words]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=check, cwd=self._home, **quiet)

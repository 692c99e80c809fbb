"""A function carried out by several processes at once, which live no longer than the one that called it."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
import torch

from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_source
from bench.core.signals import children_hear_no_signals
from models.recipes.callbacks import Interrupted, OnEvent

POLL_SECONDS = 0.2
STOP_SECONDS = 30.0
_END_SECONDS = 5.0


@dataclass
class Seat:
    """A process's place among those that work together.

    Attributes:
        rank: 0 ... count - 1.
        count: how many they are.
    """

    rank: int
    count: int
    _connection: Connection = field(repr=False)
    _stop: threading.Event = field(repr=False, default_factory=threading.Event)

    def tell(self, event: dict[str, Any]) -> None:
        """Tell the caller of something that happened; the others are silent, so that it hears everything once."""
        if self.rank == 0:
            _send(self._connection, ("event", event))

    def should_stop(self) -> bool:
        """Whether the caller asked to stop; it asks the first process only."""
        return self._stop.is_set()

    def listen(self) -> None:
        """Hear the caller, and end this process when it is gone or done with it."""
        try:
            while True:
                self._connection.recv_bytes()
                self._stop.set()
        except (EOFError, OSError):
            os._exit(0)


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def together(
    work: Callable[[Seat, Any], Any],
    load: Any,
    count: int,
    on_event: OnEvent = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Any:
    """Call `work(seat, load)` in new processes and return what the first one's call returned.

    They divide this process's CPU threads among them and know its plugins. Ctrl-C and SIGTERM are left to this process.

    Args:
        work: a function at the top level of a module.
        load: what each of them is sent, pickled; whole memory-mapped files are mapped again and not copied.
        on_event: hears what the first one tells.
        should_stop: asked now and then. Then the first one's `should_stop` turns true too, and after some time it is
            ended wherever it is.

    Raises:
        Interrupted: when asked to stop.
        UserError: the load cannot be pickled.
        RuntimeError: a process was killed.
        Exception: what one of them raised; its traceback there is the cause.
    """
    packed = pack(load)
    with _started(work, count) as members:
        for member in members:
            # One that is gone already is found out below.
            with suppress(OSError):
                member.connection.send_bytes(packed)
        return _attend(members, on_event, should_stop)


@dataclass
class _Member:
    rank: int
    process: SpawnProcess
    connection: Connection


@contextmanager
def _started(work: Callable[[Seat, Any], Any], count: int) -> Iterator[list[_Member]]:
    """The processes, ended with the block."""
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // count)
    members: list[_Member] = []
    try:
        with _inheritance(threads):
            for rank in range(count):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(
                    target=_enter, args=(work, theirs, rank, count, threads, dict(PLUGINS)), daemon=True
                )
                members.append(_Member(rank, process, ours))
                process.start()
                # The end of a process is heard as the end of its pipe, if nobody else holds the other side.
                theirs.close()
        yield members
    finally:
        for member in members:
            member.connection.close()
        for member in members:
            if member.process.pid is not None:
                member.process.join(_END_SECONDS)
                member.process.kill()
                member.process.join()


@contextmanager
def _inheritance(threads: int) -> Iterator[None]:
    """What processes started in the block take over from this one, and what is put back after it."""
    # Both are read once, when the libraries are loaded. Lightning sets the number of threads where this does not, and
    # torch's distributed parts give advice on the standard error that no filter of Python's holds back.
    wanted = {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")}
    variables = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with children_hear_no_signals():
            yield
    finally:
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _attend(members: list[_Member], on_event: OnEvent, should_stop: Callable[[], bool]) -> Any:
    """Hear the processes until each has done its work; the first one's result."""
    working = {member.connection: member for member in members}
    result, deadline = None, None
    while working:
        for connection in wait(list(working), POLL_SECONDS):
            assert isinstance(connection, Connection)
            member = working[connection]
            try:
                kind, *content = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                raise _death(member, len(members)) from None
            if kind == "event":
                on_event(content[0])
            elif kind == "error":
                raise _cause(content[0], members) from RemoteTraceback(content[1])
            else:
                del working[connection]
                result = content[0] if member.rank == 0 else result
        if deadline is not None:
            if time.monotonic() > deadline:
                raise Interrupted
        elif should_stop():
            deadline = time.monotonic() + STOP_SECONDS
            with suppress(OSError):
                _send(members[0].connection, "stop")
    return result


def _cause(error: Exception, members: list[_Member]) -> Exception:
    """A process that fails waits to be ended, so that one that is dead was killed, and the error follows from that."""
    dead = wait(
        [member.process.sentinel for member in members], timeout=1.0 if not isinstance(error, Interrupted) else 0
    )
    for member in members:
        if member.process.sentinel in dead:
            return _death(member, len(members))
    return error


def _death(member: _Member, count: int) -> RuntimeError:
    member.process.join(_END_SECONDS)
    code = member.process.exitcode
    who = f"process {member.rank + 1} of the {count} that shared the work"
    if code is None or code >= 0:
        return RuntimeError(f"{who} ended before it was done, with exit code {code}; it may have said why on stderr")
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return RuntimeError(f"{who} was ended by {signal.Signals(-code).name}{hint}")


def _enter(
    work: Callable[[Seat, Any], Any],
    connection: Connection,
    rank: int,
    count: int,
    threads: int,
    plugins: dict[str, str],
) -> None:
    """What a process does: receive the load, work, report, and wait to be let go."""
    # Communication libraries announce themselves on the standard output, where a display or a table may be.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(threads)
    seat = Seat(rank, count, connection)
    listener = threading.Thread(target=seat.listen, daemon=True)
    try:
        for path, text in plugins.items():
            load_source(path, text)
        load = pickle.loads(connection.recv_bytes())
        listener.start()
        report: tuple[Any, ...] = ("done", work(seat, load))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller raises it
        report = ("error", _sendable(error), traceback.format_exc())
    with suppress(OSError):
        _send(connection, report)
        # Were it to end now, the others would fail for want of it, and hide its error behind theirs.
        if listener.ident is not None:
            listener.join()


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be pickled and made again."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an exception's own constructor may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if isinstance(again, type(error)) else RuntimeError(f"{type(error).__name__}: {error}")


def _send(connection: Connection, message: Any) -> None:
    # Not `connection.send`: torch has that one move tensors to shared memory, and a process that ends takes them along.
    connection.send_bytes(pickle.dumps(message))


def pack(load: Any) -> bytes:
    """Pickle; of a memory-mapped file only its name and layout.

    Raises:
        UserError: something in it cannot be pickled.
    """
    buffer = BytesIO()
    try:
        _Packer(buffer, pickle.HIGHEST_PROTOCOL).dump(load)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"--devices: the network cannot be sent to other processes ({error}); define everything that it is made of "
            "at the top level of a module, or use --devices 1"
        ) from error
    return buffer.getvalue()


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # A slice of a map has the map's own offset, which is not where the slice begins: it goes by content.
        whole = isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap)
        if not (whole and value.mode == "r" and value.filename):
            return NotImplemented
        order = "C" if value.flags.c_contiguous else "F"
        return _mapped, (value.filename, value.dtype, value.shape, value.offset, order)


def _mapped(path: Any, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Any) -> Any:
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)

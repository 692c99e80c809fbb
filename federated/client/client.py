"""A client without Flower: vectors in, vectors and counts out. Nothing else of the client's data gets out of here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bench.core.atomic import replacing
from bench.core.config import Federation
from bench.core.errors import DamagedState, UserError
from bench.core.identity import derive_seed
from bench.core.schema import parsed_json, read_arrays
from federated.algorithms.base import EMPTY
from federated.algorithms.registry import ALGORITHMS
from federated.client import training
from federated.client.gradients import ClientData
from federated.client.local import LocalRound
from federated.client.training import Work
from federated.privacy import mechanism as privacy
from federated.transport import compression
from federated.transport.packing import Packing, Vector, pack, unpack
from models.inference.precision import computing_in

Arrays = dict[str, NDArray[Any]]
Metrics = dict[str, int | float]


class Store(Protocol):
    """What a client remembers between rounds: what its algorithm does, top-k's residual, its own layers."""

    def load(self, before: int) -> Arrays:
        """The arrays saved in the last round before `before`; empty when there are none."""
        ...

    def save(self, round_number: int, arrays: Arrays, best: int) -> None:
        """Keep the arrays of a round, those of the round before (a killed server repeats a round), and the best's.

        Args:
            round_number: from 1.
            arrays: what is kept of it.
            best: the number of the best round, 0 before there is one.
        """
        ...


@dataclass(frozen=True)
class FolderStore:
    """Remembers in files of a folder, so that a thousand clients take no memory and a killed run goes on."""

    folder: Path

    def load(self, before: int) -> Arrays:
        """The arrays of the last round before `before`."""
        earlier = [number for number in self._rounds() if number < before]
        if not earlier:
            return {}
        try:
            return read_arrays(self._path(max(earlier)), "start the federated fit anew")
        except UserError as error:
            raise DamagedState(str(error)) from error

    def save(self, round_number: int, arrays: Arrays, best: int) -> None:
        """Keep the arrays of this round, of the one before and of the best."""
        with replacing(self._path(round_number)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        kept = _worth_keeping(self._rounds(), round_number, best) | {round_number}
        for number in set(self._rounds()) - kept:
            self._path(number).unlink(missing_ok=True)

    def _path(self, round_number: int) -> Path:
        return self.folder / f"round-{round_number}.npz"

    def _rounds(self) -> list[int]:
        return [
            int(number)
            for path in self.folder.glob("round-*.npz")
            if (number := path.stem.removeprefix("round-")).isdecimal()
        ]


def _worth_keeping(rounds: list[int], current: int, best: int) -> set[int]:
    before = [number for number in rounds if number < current]
    until_best = [number for number in before if number <= best]
    return set(before and [max(before)]) | set(until_best and [max(until_best)])


class Client:
    """One client's side of algorithm 1.

    Args:
        module: what is trained; clients of one process share it, since each loads the round's vectors first.
        partition: the client's number; with the round it decides every random draw.
        system_noise: draw local privacy's noise from the operating system's entropy, as a real site must.
        micro_batches: in how many pieces a batch's gradient is computed, where memory is short.
        withholds: tell nobody the layers that stay with the client, not even at the end.
        precision: of its forward passes; weights, and what is sent, have 32 bits.
    """

    def __init__(
        self,
        module: nn.Module,
        packing: Packing,
        data: ClientData,
        store: Store,
        partition: int,
        system_noise: bool = False,
        micro_batches: int = 1,
        withholds: bool = False,
        precision: str = "32",
    ) -> None:
        self.withholds = withholds
        self.module, self.packing, self.data, self.store = module, packing, data, store
        self.partition, self._system_noise, self._micro_batches = partition, system_noise, micro_batches
        self._precision = precision

    def describe(self) -> Metrics:
        """Counts, for the server's plan; no label statistics."""
        return {"partition": self.partition, "num-examples": self.data.n_train, "num-val": self.data.n_val}

    def fit(self, work: Work, arrays: Arrays) -> tuple[Arrays, Metrics]:
        """Train from the round's vectors.

        Args:
            arrays: `weights` [P], `buffers` [B], and `shared` where the algorithm sends something beside them.

        Returns:
            The encoded weights, `buffers` [B], `shared` where the algorithm sends something; counts and means.
        """
        started = time.perf_counter()
        memory = self.store.load(work.round)
        known = np.asarray(arrays["weights"], np.float32)
        self._load(known, arrays, {} if self.packing.second_model else memory)
        algorithm = ALGORITHMS.get(work.algorithm)(Federation(**work.settings))
        local = self._local(work, known, np.asarray(arrays.get("shared", EMPTY), np.float32), memory)
        gradient, correction = partial(algorithm.gradient, local), algorithm.correction(local)
        with computing_in(self.module, self._precision):
            progress = training.train(
                self.module, self.data, work, local.steps, local.seed, gradient, correction, self._micro_batches
            )
        trained = pack(self.packing.trainable)
        sent, remembered = self._encode(work, trained, known, memory)
        sent["buffers"] = pack(self.packing.buffers)
        beside, own = algorithm.finish(local, trained, progress.steps)
        remembered |= own
        if len(beside):
            sent["shared"] = beside
        if self.packing.personal:
            remembered["personal"] = pack(self.packing.personal)
        if remembered:
            self.store.save(work.round, remembered, work.best_round)
        drift = float(np.linalg.norm(trained.astype(np.float64) - known))
        return sent, self._metrics(progress, drift, started)

    def evaluate(self, round_number: int, arrays: Arrays) -> Metrics:
        """Quality of the round's model (with this client's own layers where it has any) on the validation images."""
        started = time.perf_counter()
        self._load(np.asarray(arrays["weights"], np.float32), arrays, self.store.load(round_number + 1))
        with computing_in(self.module, self._precision):
            loss, accuracy, count = training.evaluate(self.module, self.data.val())
        seconds = time.perf_counter() - started
        # A client without validation images has no mean; 0 images weigh it out, and Flower's records take NaN badly.
        quality = {"loss": loss, "accuracy": accuracy} if count else {"loss": 0.0, "accuracy": 0.0}
        return {"partition": self.partition, "num-examples": count, **quality, "seconds": seconds}

    def personal(self, round_number: int) -> Vector:
        """What stays with the client [L] after a round; empty when it never trained."""
        memory = self.store.load(round_number + 1)
        return np.asarray(memory.get("personal", np.empty(0)), np.float32)

    def _local(self, work: Work, known: Vector, shared: Vector, memory: Arrays) -> LocalRound:
        seed = client_seed(work.seed, self.partition)
        steps = training.steps_of(work, self.data, self.partition)
        return LocalRound(
            self.module, self.packing, self.data, work, known, shared, memory, seed, steps, self._micro_batches
        )

    def _load(self, known: Vector, arrays: Arrays, memory: Arrays) -> None:
        unpack(known, self.packing.trainable)
        unpack(np.asarray(arrays["buffers"], np.float32), self.packing.buffers)
        if "personal" in memory or (self.packing.personal and not self.packing.second_model):
            start = memory.get("personal", self.packing.initial_personal)
            unpack(np.asarray(start, np.float32), self.packing.personal)

    def _encode(self, work: Work, trained: Vector, known: Vector, memory: Arrays) -> tuple[Arrays, Arrays]:
        target = self._privatise(work, trained, known)
        if "residual" in memory:
            target = target + memory["residual"].astype(np.float32)
        random = np.random.default_rng(derive_seed(work.seed, "compression", work.round, self.partition))
        sent, lost = compression.encode(work.compression, target, known, ratio=work.compression_ratio, random=random)
        return sent, ({"residual": lost} if work.compression == "topk" else {})

    def _privatise(self, work: Work, trained: Vector, known: Vector) -> Vector:
        seed = None if self._system_noise else derive_seed(work.seed, "noise", work.round, self.partition)
        clipped = privacy.clip(trained, known, work.clip_norm)
        deviation = 0.0 if work.noise_multiplier == 0 else work.noise_multiplier * work.clip_norm
        return privacy.noisy(clipped, deviation, privacy.noise_stream(seed))

    def _metrics(self, progress: training.Progress, drift: float, started: float) -> Metrics:
        return {
            "partition": self.partition,
            "num-examples": self.data.n_train,
            "steps": progress.steps,
            "images": progress.images,
            "loss": progress.loss,
            "accuracy": progress.accuracy,
            "drift": drift,
            "seconds": time.perf_counter() - started,
            "seconds-training": progress.seconds,
        }


def client_seed(seed: int, partition: int) -> int:
    """A client's own seed; the first client has the federation's, so that alone it is the centralized fit."""
    return seed if partition == 0 else derive_seed(seed, "client", partition)


def work_to_json(work: Work) -> str:
    """The work as it travels."""
    return json.dumps(work.as_dict(), sort_keys=True)


def work_from_json(text: str) -> Work:
    """Undo `work_to_json`."""
    return Work.from_dict(parsed_json("the server's work", text, dict[str, Any], "use one version at every site"))


MakeClient = Callable[[int], Client]

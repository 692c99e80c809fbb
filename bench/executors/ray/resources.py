"""What a cell needs of a machine, and how many such cells the machines of a cluster hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bench.core.config import Runtime
from bench.harness.networks import model_cost
from bench.harness.plan import PlannedCell

GIB = 2**30
# The interpreter with torch and Lightning, measured at 0.9 to 1.2; a decoded dataset is mapped from its file and counts
# as cache.
_BASE_BYTES = 1.2 * GIB
# Weights, gradients and Adam's two moments.
_COPIES_OF_PARAMETERS = 4
# What the convolutions put out, and twice as much for normalizations, activations and gradients (fits of MobileNetV2
# and ResNet-50 on a CPU, measured).
_COPIES_OF_ACTIVATIONS = 3
_BYTES = 4


@dataclass(frozen=True)
class Resources:
    """What one cell asks of a machine.

    Attributes:
        cpus: cores; torch gets as many threads.
        gpus: a share of one GPU, or whole ones.
        memory: bytes of the machine's memory.
    """

    cpus: int
    gpus: float
    memory: int

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{gpus} and {self.memory / GIB:.1f} GiB"

    def with_more_memory(self) -> Resources:
        """What a cell that ran out of memory asks for next."""
        return replace(self, memory=2 * self.memory)

    def fits(self, resources: Mapping[str, float]) -> int:
        """How many such cells a machine with these Ray resources holds at once."""
        bounds = [resources.get("CPU", 0.0) / self.cpus, resources.get("memory", 0.0) / self.memory]
        if self.gpus:
            bounds.append(resources.get("GPU", 0.0) / self.gpus)
        return int(min(bounds) + 1e-9)


def resources_for(cell: PlannedCell, classes: int, runtime: Runtime, gpu: bool) -> Resources:
    """What a cell asks for: a core (or `threads`), its share of a GPU, and an estimate of its memory.

    Args:
        cell: what is to run.
        classes: of its dataset.
        runtime: of the run.
        gpu: whether the cluster has GPUs.
    """
    cost = model_cost(cell.model, classes, cell.image_size)
    protocol = cell.spec.protocol
    images = max(protocol.batch_size if protocol.tuning == "full" else 0, protocol.timing_batch_size)
    tensors = _COPIES_OF_PARAMETERS * cost["params_m"] + _COPIES_OF_ACTIVATIONS * cost["activations_m"] * images
    memory = int(_BASE_BYTES + _BYTES * 1e6 * tensors)
    cpus = max(1, runtime.threads)
    if not gpu:
        return Resources(cpus, 0.0, memory)
    return Resources(cpus, 1 / runtime.per_gpu, memory)


def most_on_one_machine(wanted: Resources, machines: Iterable[Mapping[str, float]]) -> int:
    """The largest number of such cells that one machine of a cluster holds."""
    return max((wanted.fits(machine) for machine in machines), default=0)

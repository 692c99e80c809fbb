"""The in-process simulation beside two other simulators, `pfl` and `fluke-fl`: same model, clients and work, in turns.

    python benchmarks/federated_peers.py [--clients 100] [--rounds 10] [--turns 3]

Needs both packages beside this one, in an environment of its own (neither is a dependency). A linear classifier (1280
features, 3 classes) on drawn numbers; each client holds 32 images, every client is asked in every round and takes one
epoch of SGD 0.1 in batches of 16. Nothing is evaluated by the others; here each round ends with its checkpoint on disk
and its evaluation on 20 images, which cannot be turned off. Prints the seconds of each turn, the medians' ratios, and
the accuracy on the training images that each ends with.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FEATURES, CLASSES, IMAGES, BATCH, RATE = 1280, 3, 32, 16, 0.1
Result = tuple[float, float]


def drawn(clients: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features float32 [K, 32, 1280] and labels [K, 32] of a noisy linear rule."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((clients, IMAGES, FEATURES), np.float32)
    rule = random.standard_normal((FEATURES, CLASSES), np.float32)
    noise = random.standard_normal((clients, IMAGES, CLASSES), np.float32)
    return inputs, (inputs @ rule + 20 * noise).argmax(-1).astype(np.int64)


def accuracy(model: nn.Module, inputs: Any, labels: Any) -> float:
    with torch.inference_mode():
        found = model(torch.from_numpy(inputs.reshape(-1, FEATURES))).argmax(1).numpy()
    return float((found == labels.ravel()).mean())


def start() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def of_bench(inputs: Any, labels: Any, rounds: int) -> Result:
    from bench.core.config import load_protocol
    from bench.data.loader import Part
    from federated.simulation.fit import fit
    from models.recipes.batches import Preparation
    from models.recipes.context import FitContext, FitData
    from models.registry import MODELS
    from models.weights.initial import Normalization

    clients = len(inputs)
    settings = [f"epochs={rounds}", "early_stopping_patience=1000", "tuning=head", f"batch_size={BATCH}"]
    settings += [f"federated.clients={clients}", "federated.partition=site", f"federated.local_learning_rate={RATE}"]
    network = MODELS.get("linear@mobilenet_v2").build(CLASSES)
    network.freeze_backbone()
    (linear,) = (layer for layer in network.head.modules() if isinstance(layer, nn.Linear))
    linear.load_state_dict(start().state_dict())
    sites = np.repeat([f"site {number:05}" for number in range(clients)], IMAGES)
    names = np.array([f"{number}" for number in range(clients * IMAGES)])
    flat, truth = inputs.reshape(-1, FEATURES, 1, 1), labels.ravel()
    train = Part(flat, np.arange(len(flat)), truth, names, names, sites)
    few = np.arange(20)
    val = Part(flat[:20], few, truth[:20], names[:20], names[:20], sites[:20])
    prepare = Preparation(Normalization((0.0,) * 3, (1.0,) * 3), None, torch.device("cpu"), False)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            MODELS.get("linear@mobilenet_v2"), ("a", "b", "c"), 32, network, load_protocol("demo", settings), "fedavg",
            FitData(train, val), prepare, 11, 22, Path(folder), torch.device("cpu"),
        )  # fmt: skip
        started = time.perf_counter()
        fit(context)
        seconds = time.perf_counter() - started
    return seconds, accuracy(linear, inputs, labels)


def of_pfl(inputs: Any, labels: Any, rounds: int) -> Result:
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = start()

        def forward(self, values: Any) -> Any:
            return self.linear(values)

        def loss(self, values: Any, truth: Any, eval: bool = False) -> Any:
            return nn.functional.cross_entropy(self(values), truth)

        def metrics(self, values: Any, truth: Any, eval: bool = True) -> dict[str, Any]:
            return {}

    clients, module = len(inputs), Model()
    tensors = [(torch.from_numpy(inputs[k]), torch.from_numpy(labels[k])) for k in range(clients)]
    users = list(range(clients))
    data = FederatedDataset(lambda user: Dataset(tensors[user]), get_user_sampler("minimize_reuse", users))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    work = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=RATE, local_batch_size=BATCH)
    params = NNAlgorithmParams(
        central_num_iterations=rounds, evaluation_frequency=10 * rounds, train_cohort_size=clients, val_cohort_size=0
    )
    started = time.perf_counter()
    FederatedAveraging().run(params, SimulatedBackend(data, data), model, work, None, None)
    return time.perf_counter() - started, accuracy(module, inputs, labels)


def of_fluke(inputs: Any, labels: Any, rounds: int) -> Result:
    from fluke import DDict, FlukeENV
    from fluke.algorithms.fedavg import FedAVG
    from fluke.data import DataSplitter, DummyDataContainer, FastDataLoader
    from fluke.evaluation import ClassificationEval

    settings = FlukeENV()
    settings.set_seed(0)
    settings.set_device("cpu")
    settings.set_evaluator(ClassificationEval(eval_every=10 * rounds, n_classes=CLASSES))
    settings.set_eval_cfg(server=False, locals=False, post_fit=False, pre_fit=False)
    loaders = [
        FastDataLoader(torch.from_numpy(inputs[k]), torch.from_numpy(labels[k]), num_labels=CLASSES, batch_size=BATCH)
        for k in range(len(inputs))
    ]
    held = DummyDataContainer(loaders, [None] * len(loaders), None, CLASSES)
    client = {
        "batch_size": BATCH,
        "local_epochs": 1,
        "loss": nn.CrossEntropyLoss,
        "optimizer": {"name": "SGD", "lr": RATE},
    }
    client |= {"scheduler": {"name": "StepLR", "gamma": 1, "step_size": 1}}
    hyper = DDict(client=DDict(client), server=DDict(weighted=True), model=start())
    algorithm = FedAVG(len(loaders), DataSplitter(held, distribution="iid"), hyper)
    started = time.perf_counter()
    algorithm.run(rounds, 1.0, finalize=False)
    return time.perf_counter() - started, accuracy(algorithm.server.model, inputs, labels)


ENGINES: dict[str, Callable[..., Result]] = {"this": of_bench, "pfl": of_pfl, "fluke": of_fluke}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engines", default=",".join(ENGINES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    inputs, labels = drawn(arguments.clients)
    seconds: dict[str, list[float]] = {}
    for turn in range(arguments.turns):
        for name in arguments.engines.split(","):
            took, right = ENGINES[name](inputs, labels, arguments.rounds)
            seconds.setdefault(name, []).append(took)
            print(f"turn {turn + 1}, {name}: {took:.2f} s, accuracy {100 * right:.1f} %", flush=True)
    first = statistics.median(seconds[arguments.engines.split(",")[0]])
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"{name}: {1000 * middle / arguments.rounds:.1f} ms a round, {middle / first:.2f} times the first")


if __name__ == "__main__":
    main()

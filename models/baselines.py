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

# What torchvision's classification models call the parts behind the feature map, and the auxiliary classifiers.
CLASSIFIER_PARTS = (
    "classifier",
    "fc",
    "head",
    "heads",
    "avgpool",
    "dropout",
    "flatten",
    "aux1",
    "aux2",
    "AuxLogits",
)

# The layers before the last one of the classifiers that are more than a global average and one linear layer: there the
# published classifier is the baseline's head. Written down, so that a listing needs no network; a test compares.
OWN_CLASSIFIER: dict[str, tuple[str, ...]] = {
    "mobilenet_v2": ("avg", "Dropout"),
    "mobilenet_v3_small": ("avg", "Linear 576-1024", "Hardswish", "Dropout"),
    "mobilenet_v3_large": ("avg", "Linear 960-1280", "Hardswish", "Dropout"),
    "efficientnet_b0": ("avg", "Dropout"),
    "squeezenet1_1": ("Dropout", "ReLU", "avg"),
    "mnasnet1_0": ("avg", "Dropout"),
    "googlenet": ("avg", "Dropout"),
    "inception_v3": ("avg", "Dropout"),
    "vgg19": (
        "AdaptiveAvgPool2d", "Linear 25088-4096", "ReLU", "Dropout", "Linear 4096-4096", "ReLU", "Dropout",
    ),
    "convnext_tiny": ("avg", "LayerNorm2d"),
}  # fmt: skip

# What only the training of the published network had.
DEPARTURES = {
    "efficientnet_lite0": "the Dropout of 0.2 before its last layer is left out, which only training uses",
    "googlenet": "its two auxiliary classifiers are left out, whose losses only the training of the published one used",
    "inception_v3": "its auxiliary classifier is left out, whose loss only the training of the published network used",
}

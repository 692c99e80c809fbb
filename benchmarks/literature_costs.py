"""The table of docs/literature.md: what each system of the literature costs, beside the network that it is made of.

`python benchmarks/literature_costs.py` prints it; a test holds that the page has these very lines.
"""

from __future__ import annotations

from models.literature.catalogue import SYSTEMS
from models.literature.system import Own, System
from models.recipes.registry import RECIPES
from models.registry import MODELS

CLASSES, SIZE = 4, 224
HEAD = (
    "| model | in table | parameters | MACs, millions | the network as published, 1000 classes | what is different "
    "| how sure |",
    "|---|---|---|---|---|---|---|",
)
_INCEPTION_V4 = (42_679_816, 12.27)
"""timm's card of inception_v4: parameters and billions of multiply-accumulates, at 299 pixels."""


def lines() -> list[str]:
    """The table's lines, its head first."""
    return [*HEAD, *(line(system) for system in SYSTEMS)]


def line(system: System) -> str:
    """A system's line."""
    about = system.publication
    parameters, macs = _counted(system)
    cells = [
        f"`{system.name}` {about.reference}",
        str(about.table) if about.table else "–",
        parameters,
        macs,
        published(system),
        difference(system),
        about.sureness,
    ]
    return f"| {' | '.join(cells)} |"


def _counted(system: System) -> tuple[str, str]:
    from bench.harness.networks import model_cost

    spec = MODELS.get(system.name)
    if RECIPES.get(spec.recipe).searches:
        return "found by the search", "found by the search"
    counts = model_cost(spec, CLASSES, SIZE)
    return f"{round(counts['params_m'] * 1e6):,}", f"{counts['macs_m']:,.1f}"


def as_published(system: System) -> tuple[int, float] | None:
    """Parameters and billions of multiply-accumulates of the known network behind a system; None for no known one."""
    if system.name == "emara-inception_v4":
        return _INCEPTION_V4
    if isinstance(system.backbone, Own):
        return None
    import torchvision

    meta = next(iter(torchvision.models.get_model_weights(system.backbone))).meta
    return int(meta["num_params"]), float(meta["_ops"])


def published(system: System) -> str:
    """What the library prints of the network; of the systems' own publications no printed cost is known here."""
    known = as_published(system)
    if known is None:
        return system.publication.cost or "not known here"
    at = " at 299 px" if "inception" in system.name else ""
    return f"{known[0]:,}; {1000 * known[1]:,.0f}{at}"


def difference(system: System) -> str:
    """Ours minus the published network's parameters, in its parts."""
    known = as_published(system)
    if known is None:
        return "–"
    import torch

    from models.backbones.probe import build_without_memory

    spec = MODELS.get(system.name)
    network = build_without_memory(lambda: spec.build(CLASSES))
    step = sum(parameter.numel() for parameter in network.parameters()) - known[0]
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    width = last.in_features
    swapped = sum(type(layer).__name__ == "PFpM" for layer in network.modules())
    parts = {f"{CLASSES} classes": -(1000 - CLASSES) * (width + 1)}
    if system.name == "emara-inception_v4":
        parts = {"4 classes": -(1000 - CLASSES) * (1536 + 1), "the long skip's 384 channels": 384 * CLASSES}
    parts |= {"one p an activation": swapped} if swapped else {}
    rest = step - sum(parts.values())
    parts |= {"no auxiliary classifier": rest} if rest else {}
    return "; ".join(f"{count:+,} ({why})".replace("-", "−") for why, count in parts.items())


if __name__ == "__main__":
    print("\n".join(lines()))

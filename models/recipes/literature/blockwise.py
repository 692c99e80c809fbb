"""Fine-tuning block by block, from the last one backwards: Swati et al., 2019."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from models.recipes import gradient
from models.recipes.callbacks import STATE

if TYPE_CHECKING:
    from models.recipes.context import FitContext, FitOutcome

_ENDS_A_BLOCK = (nn.MaxPool2d, nn.AvgPool2d)


def blocks_of(module: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a module's blocks, first to last: what lies between two poolings, and the head as one.

    VGG-19's are five blocks of convolutions and the classifier.
    """
    found: list[list[nn.Parameter]] = [[]]
    head = False
    for name, layer in module.named_modules():
        starts_head = name.startswith("head.") and not head
        if (starts_head or (isinstance(layer, _ENDS_A_BLOCK) and not head)) and found[-1]:
            found.append([])
        head = head or starts_head
        found[-1] += list(layer.parameters(recurse=False))
    return [block for block in found if block]


def fit(context: FitContext) -> FitOutcome:
    """Train the last block, then the last two, and so on; each stage starts from the best weights of the one before.

    The protocol's epochs are shared equally, rounded up. A stage's state is in a folder of its own, so that a stopped
    fit goes on in the stage in which it stopped. Only the last stage is refitted where the protocol asks for it: a
    refit learns from the validation images, which would then choose nothing.

    Raises:
        Interrupted: when asked to stop.
    """
    blocks = blocks_of(context.module)
    epochs = -(-context.protocol.epochs // len(blocks))
    outcomes: list[FitOutcome] = []
    for trained in range(1, len(blocks) + 1):
        for number, block in enumerate(blocks):
            for parameter in block:
                parameter.requires_grad_(number >= len(blocks) - trained)
        changes = {"epochs": epochs, "refit": context.protocol.refit and trained == len(blocks)}
        stage = replace(
            context,
            protocol=context.protocol.model_copy(update=changes),
            folder=context.folder / STATE / f"block-{trained}",
        )
        outcomes.append(gradient.fit(stage))
    return _joined(context, outcomes)


def _joined(context: FitContext, outcomes: list[FitOutcome]) -> FitOutcome:
    history: list[dict[str, Any]] = []
    for trained, outcome in enumerate(outcomes, start=1):
        start = len(history)
        history += [{**row, "epoch": start + row["epoch"], "blocks_trained": trained} for row in outcome.history]
    last = outcomes[-1]
    before = len(history) - len(last.history)
    columns = {
        **last.columns,
        "best_epoch": before + last.columns["best_epoch"],
        "epochs_run": float(len(history)),
    }
    note = f"trained block by block from the last backwards, {len(outcomes)} stages"
    return replace(last, history=history, columns=columns, notes=[*last.notes, note], predictor=context.predictor())

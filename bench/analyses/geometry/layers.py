"""What a network's layers answer, for any backbone: found by its structure, not by names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn

from bench.core.errors import UserError

Item = TypeVar("Item")
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


def blocks(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """The backbone's stages in order, with their names: its children, those of its only child where it has one."""
    module, prefix = backbone, ""
    while len(children := list(module.named_children())) == 1:
        prefix, module = f"{prefix}{children[0][0]}.", children[0][1]
    return [(f"{prefix}{name}", child) for name, child in children]


def spread(items: list[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly, the last one included."""
    if len(items) <= count:
        return items
    return [items[round((number + 1) * len(items) / count) - 1] for number in range(count)]


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inside the block each module's last input and output are kept by name, without gradient."""
    kept: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Hook:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept[name] = (inputs[0].detach(), output.detach())

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def pooled(output: Tensor) -> Tensor:
    """Means over a map's positions [N, C]; what is no map is flattened."""
    return output.flatten(2).mean(2) if output.ndim > 2 else output.flatten(1)


def last_linear(head: nn.Module) -> nn.Linear:
    """The head's output layer. Raises UserError where its last layer with parameters is not linear."""
    with_parameters = [module for module in head.modules() if list(module.parameters(recurse=False))]
    if not with_parameters or not isinstance(with_parameters[-1], nn.Linear):
        raise UserError("the head has no linear output layer; its exact spectrum cannot be had")
    return with_parameters[-1]

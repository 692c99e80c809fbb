"""Recipes by name: how a model is fitted where its data lie in one place. The code is imported when a cell needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.registry import Registry, imported

if TYPE_CHECKING:
    from models.recipes.context import FitContext, FitOutcome


@dataclass(frozen=True)
class RecipeSpec:
    """A recipe.

    Attributes:
        summary: one line for the listing.
        fit: a function of a `FitContext` that returns a `FitOutcome`, or its name as "module:function". It goes on from
            what an earlier, stopped call left in the context's folder, or starts anew.
        federated: whether clients can train such a model too, by gradients: every regime but `centralized` asks for it.
    """

    name: str
    summary: str
    fit: Callable[[FitContext], FitOutcome] | str
    federated: bool = False

    def load(self) -> Callable[[FitContext], FitOutcome]:
        """The function itself."""
        return imported(self.fit)


RECIPES: Registry[RecipeSpec] = Registry("recipe", "bench.recipes", listing="bench models list", kind=RecipeSpec)
GRADIENT = "gradient"
_SUMMARY = "all trained weights at once, by gradients (Lightning)"
RECIPES.register(GRADIENT, RecipeSpec(GRADIENT, _SUMMARY, "models.recipes.gradient:fit", federated=True))
for _name, _about in {
    "blockwise": "block by block, from the last backwards",
    "features": "the network's pooled features under an SVM or k-NN",
}.items():
    RECIPES.register(_name, RecipeSpec(_name, _about, f"models.recipes.{_name}:fit"))


def fit(context: FitContext) -> FitOutcome:
    """Fit a model by its own recipe: what the regime `centralized` is.

    Raises:
        Interrupted: when asked to stop.
    """
    return RECIPES.get(context.model.recipe).load()(context)

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
        searches: whether the network that is fitted is found by the fit, so that nothing is known of its cost before.
        sees_test: whether it is handed the test images too. Only a model that carries a `caution` may have such a one.
    """

    name: str
    summary: str
    fit: Callable[[FitContext], FitOutcome] | str
    federated: bool = False
    searches: bool = False
    sees_test: bool = False

    def load(self) -> Callable[[FitContext], FitOutcome]:
        """The function itself."""
        return imported(self.fit)


RECIPES: Registry[RecipeSpec] = Registry("recipe", "bench.recipes", listing="bench models list", kind=RecipeSpec)
GRADIENT = "gradient"
OWN_PROTOCOL = "protocol"
"""The option of a model that names fields of the protocol which its fit by gradients sets."""
_SUMMARY = "all trained weights at once, by gradients (Lightning)"
RECIPES.register(GRADIENT, RecipeSpec(GRADIENT, _SUMMARY, "models.recipes.gradient:fit", federated=True))
_FOLDER = "models.recipes.literature"
for _spec in (
    RecipeSpec("blockwise", "block by block, from the last backwards", f"{_FOLDER}.blockwise:fit"),
    RecipeSpec("features", "the network's pooled features under an SVM or k-NN", f"{_FOLDER}.features:fit"),
    RecipeSpec("genetic", "a genetic search, then bagging of what it found", f"{_FOLDER}.genetic:fit", searches=True),
    RecipeSpec("folded", "fold after fold, the test images too", f"{_FOLDER}.folded:fit", sees_test=True),
):
    RECIPES.register(_spec.name, _spec)


def fit(context: FitContext) -> FitOutcome:
    """Fit a model by its own recipe: what the regime `centralized` is.

    Raises:
        Interrupted: when asked to stop.
    """
    return RECIPES.get(context.model.recipe).load()(context)

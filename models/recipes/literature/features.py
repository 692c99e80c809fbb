"""Features and a classical classifier: a network's pooled map under linear support vector machines or k-NN.

With `tuning = full` the network is fitted by gradients first, and its head is then replaced; with `tuning = head` the
features are those of the frozen backbone.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import UserError
from bench.data.loader import Part
from models.evaluate import evaluated, positions
from models.heads.dense import global_pool
from models.inference.engines import evaluator
from models.network import Network
from models.predictor import Card, NetworkPredictor, Predictor, filled_network
from models.recipes import gradient
from models.recipes.context import FitContext, FitOutcome

Kind = Literal["svm", "knn"]
COSTS = (0.001, 0.01, 0.1, 1.0)
NEIGHBOURS = (1, 3, 5, 7, 9)
_SHARPNESS = np.geomspace(0.1, 30, 40)
_NETWORK, _CLASSIFIER = "network.", "classifier."


def fit(context: FitContext) -> FitOutcome:
    """Fit the classifier that the model's option `classifier` names; C or k is chosen on the validation part.

    Raises:
        Interrupted: when asked to stop; the network's fit goes on from its last finished epoch.
        UserError: the option names no classifier, or the protocol asks for a refit, which only gradients can repeat.
    """
    kind = context.model.options.get("classifier")
    if kind not in ("svm", "knn"):
        raise UserError(f"{context.model.name}: its option classifier is svm or knn, not {kind!r}")
    if context.protocol.refit:
        raise UserError(f"{context.model.name} cannot be refitted on the validation images; use --set refit=false")
    tuned = gradient.fit(context) if context.protocol.tuning == "full" else None
    plain = FeaturePredictor(context.card, context.network, context.device, kind, {})
    train, val = (plain.features(part) for part in (context.data.train, context.data.val))
    scale = {"mean": train.mean(0), "std": train.std(0, correction=0).clamp_min(1e-6)}
    labels = torch.from_numpy(context.data.train.labels)
    choose = _svm if kind == "svm" else _knn
    chosen, value = choose(_scaled(train, scale), labels, _scaled(val, scale), context.data.val.labels, context)
    predictor = FeaturePredictor(context.card, context.network, context.device, kind, {**scale, **chosen})
    return _outcome(predictor, context, tuned, {f"{kind}_{'c' if kind == 'svm' else 'k'}": float(value)})


def _outcome(
    predictor: FeaturePredictor, context: FitContext, tuned: FitOutcome | None, columns: dict[str, float]
) -> FitOutcome:
    data = context.data
    accuracy = {
        f"{name}_accuracy": float((predictor.of_part(part).argmax(1) == part.labels).mean())
        for name, part in (("train", data.train), ("val", data.val))
    }
    row: dict[str, Any] = {"epoch": len(tuned.history) if tuned else 0, **accuracy}
    context.on_event({"event": "epoch", **row})
    note = f"{predictor.classifier} on the {'fine-tuned' if tuned else 'frozen'} network's pooled features"
    before = tuned or FitOutcome([], predictor)
    return FitOutcome([*before.history, row], predictor, {**before.columns, **columns}, [*before.notes, note])


class FeaturePredictor(Predictor):
    """A backbone, and a classifier of its pooled map that is plain arithmetic on tensors.

    Args:
        tensors: of the classifier: `mean` and `std` [C] of the training features, and for an SVM `weight` [k, C],
            `bias` [k] and `sharpness` [1] of its softmax; for k-NN `points` [N, C], `votes` [N, k] and
            `neighbours` [1].
    """

    kind = "features"

    def __init__(
        self, card: Card, network: Network, device: torch.device, classifier: Kind, tensors: dict[str, Tensor]
    ) -> None:
        super().__init__(card, device)
        # It is kept to itself: what asks for a predictor's network wants its logits, and these come from no network.
        self._whole = NetworkPredictor(card, network, device)
        self._backbone = evaluator(network.backbone, card.computing)
        self.classifier = classifier
        self._tensors = {name: tensor.to(device) for name, tensor in tensors.items()}

    def features(self, part: Part) -> Tensor:
        """Pooled features float32 [N, C] of a part that holds what the fit's parts held, on the CPU."""
        rows = (self.prepare(part.gather(np.arange(some.start, some.stop))) for some in positions(len(part)))
        return torch.cat([evaluated(self._pooled, some, self.card.channels_last).cpu() for some in rows])

    def inputs(self, images: Tensor) -> Tensor:
        """The images themselves, or the backbone's maps by the very steps that the stored ones went through."""
        return self._whole.inputs(images)

    def classify(self, inputs: Tensor) -> Tensor:
        """Softmax of the machines' decisions, or the neighbours' votes: float32 [B, k]."""
        values = _scaled(self._pooled(inputs), self._tensors)
        return _decided(values, self._tensors) if self.classifier == "svm" else _voted(values, self._tensors)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The network's state and the classifier's tensors."""
        values, network = self._whole.state()
        tensors = {f"{_NETWORK}{name}": tensor for name, tensor in network.items()}
        own = {f"{_CLASSIFIER}{name}": tensor for name, tensor in self._tensors.items()}
        return {**values, "classifier": self.classifier}, tensors | own

    @classmethod
    def restore(cls, card: Card, values: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Self:
        """The predictor of a state.

        Args:
            values, tensors: of `state`.
            device: where the network goes.
        """
        network = filled_network(card, values["group_norms"], _below(_NETWORK, tensors), device)
        return cls(card, network, device, values["classifier"], _below(_CLASSIFIER, tensors))

    def _pooled(self, inputs: Tensor) -> Tensor:
        maps = self._backbone(inputs) if self.card.stored == "images" else inputs
        return global_pool(maps, "avg")


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _scaled(values: Tensor, scale: dict[str, Tensor]) -> Tensor:
    return (values - scale["mean"]) / scale["std"]


def _decided(values: Tensor, machines: dict[str, Tensor]) -> Tensor:
    decisions = values @ machines["weight"].T + machines["bias"]
    return (decisions * machines["sharpness"]).softmax(1)


def _voted(values: Tensor, neighbours: dict[str, Tensor]) -> Tensor:
    # Distances by subtraction: the quick way, by products, cancels where points are near.
    distances = torch.cdist(values, neighbours["points"], compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(int(neighbours["neighbours"]), largest=False).indices
    return neighbours["votes"][nearest].mean(1)


def _svm(
    train: Tensor, labels: Tensor, val: Tensor, val_labels: NDArray[np.int64], context: FitContext
) -> tuple[dict[str, Tensor], float]:
    """Linear machines, one a class against the rest; C by the validation accuracy, the smaller one of equals.

    Their decisions are no probabilities: a softmax's sharpness is chosen by the validation log loss.
    """
    found = [(_machines(train, labels, cost, context), cost) for cost in COSTS]
    scored = [(_accuracy(_decided(val, machines), val_labels), machines, cost) for machines, cost in found]
    _, machines, cost = max(scored, key=lambda one: one[0])
    truth = torch.from_numpy(val_labels)
    decisions = val @ machines["weight"].T + machines["bias"]
    losses = [float(torch.nn.functional.cross_entropy(decisions * float(sharp), truth)) for sharp in _SHARPNESS]
    sharpness = torch.tensor([_SHARPNESS[int(np.argmin(losses))]], dtype=torch.float32)
    return {**machines, "sharpness": sharpness}, cost


def _machines(train: Tensor, labels: Tensor, cost: float, context: FitContext) -> dict[str, Tensor]:
    from sklearn.svm import LinearSVC

    rows = []
    for number in range(context.num_classes):
        # One class at a time, so that two classes have two machines as well.
        machine = LinearSVC(C=cost, random_state=context.fit_seed % 2**31, dual=True, max_iter=5000)
        machine.fit(train.numpy(), (labels == number).numpy())
        rows.append((machine.coef_[0], machine.intercept_[0]))
    weight, bias = (torch.tensor(np.array(values), dtype=torch.float32) for values in zip(*rows, strict=True))
    return {"weight": weight, "bias": bias, "sharpness": torch.ones(1)}


def _knn(
    train: Tensor, labels: Tensor, val: Tensor, val_labels: NDArray[np.int64], context: FitContext
) -> tuple[dict[str, Tensor], float]:
    """The training features and their labels; k by the validation accuracy, the smaller one of equals."""
    votes = torch.nn.functional.one_hot(labels, context.num_classes).float()
    scored = []
    for count in NEIGHBOURS:
        tensors = {"points": train, "votes": votes, "neighbours": torch.tensor([min(count, len(train))])}
        scored.append((_accuracy(_voted(val, tensors), val_labels), tensors, count))
    _, tensors, count = max(scored, key=lambda one: one[0])
    return tensors, count


def _accuracy(probabilities: Tensor, labels: NDArray[np.int64]) -> float:
    return float((probabilities.argmax(1).numpy() == labels).mean())

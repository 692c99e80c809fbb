"""One fit on several devices with Lightning's DDP: a process a device, each computing its share of every batch.

A batch holds the images that it holds on one device, with the same augmentation, so that the same is learned to
rounding. What differs is dropout, where every process draws masks of its own, and BatchNorm on CPUs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.errors import UserError
from bench.core.identity import derive_seed
from models.recipes.batches import EvalBatches, TrainBatches
from models.recipes.callbacks import History
from models.recipes.classifier import Classifier, Tally
from models.recipes.loss import loss_of
from models.recipes.processes import Seat, together

if TYPE_CHECKING:
    from models.recipes.gradient import FitContext

_HOST = "127.0.0.1"


def train(context: FitContext, callbacks: list[Callback]) -> list[dict[str, Any]]:
    """Run the epochs that are left on the context's number of devices; the kept weights are then in its folder.

    Returns:
        The states of the history and of the callbacks.

    Raises:
        Interrupted: when asked to stop; the last finished epoch is saved.
        UserError: the devices are not there, or the batches cannot be shared among them.
    """
    check(context)
    # Kept here so that its port is taken from the moment that it is chosen.
    meeting = _store(0, is_master=True, wait_for_workers=False)
    # Off the GPU, which the first process needs, and where the others would open it too when they unpickle.
    context.network.cpu()
    if context.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        load = _Load(replace(context, on_event=_silent, should_stop=_never), callbacks, meeting.port)
        states: list[dict[str, Any]] = together(
            _train_share, load, context.devices, context.on_event, context.should_stop
        )
    finally:
        context.network.to(context.device)
    return states


def check(context: FitContext) -> None:
    """Refuse devices that are not there and batches that cannot be shared equally.

    Raises:
        UserError: in one sentence.
    """
    count, val = context.devices, len(context.data.val)
    if context.device.type == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"--devices {count}: this machine has {torch.cuda.device_count()} CUDA devices; ask for fewer")
    if val < count:
        raise UserError(f"--devices {count}: the validation part has {val} images; ask for {val} devices at most")
    batch_size(context)


def batch_size(context: FitContext) -> int:
    """Images in a batch: the protocol's number, or what a smaller training part has for equal shares.

    Shares must be equal for the mean of their gradients to be the batch's.

    Raises:
        UserError: the protocol's number cannot be shared equally.
    """
    count, pieces = context.devices, context.devices * context.micro_batches
    asked, there = context.protocol.batch_size, len(context.data.train)
    if asked % pieces:
        micro = f" in {context.micro_batches} micro-batches" if context.micro_batches > 1 else ""
        enough = asked + pieces - asked % pieces
        raise UserError(
            f"--devices {count}{micro} does not divide batch_size = {asked}; "
            f"choose a divisor, or --set batch_size={enough}"
        )
    size = min(asked, there - there % pieces)
    if size == 0:
        raise UserError(f"--devices {count}: the training part has {there} images, too few to share; ask for fewer")
    return size


def notes(context: FitContext) -> list[str]:
    """What a reader must know of a fit on several devices; nothing for one."""
    if context.devices == 1:
        return []
    gpu = context.device.type == "cuda"
    found = [f"every batch shared equally by {context.devices} {'GPUs' if gpu else 'CPU processes'}"]
    size, wanted = batch_size(context), min(context.protocol.batch_size, len(context.data.train))
    if size < wanted:
        found.append(f"batches of {size} images instead of {wanted}, for equal shares")
    layers = [module for module in context.module.modules() if isinstance(module, _BatchNorm)]
    own = sorted({type(layer).__name__ for layer in layers if not (gpu and _can_synchronize(layer))})
    if own:
        why = "" if gpu else " (torch synchronizes them on GPUs only)"
        found.append(
            f"{', '.join(own)}: each process has the statistics of its own shares{why}, the first one's are kept"
        )
    return found


@dataclass(frozen=True)
class Share:
    """A process's part of every training batch, [B / count, ...].

    The whole batch is prepared: augmentation then draws what it draws on one device.
    """

    batches: TrainBatches
    rank: int
    count: int

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in self.batches:
            size = len(labels) // self.count
            mine = slice(self.rank * size, (self.rank + 1) * size)
            yield inputs[mine], labels[mine]


class ShareClassifier(Classifier):
    """Sees a share of every batch, and counts what all processes saw, so that all of them decide alike."""

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's own random stream; the processes drop different units."""
        super().on_train_epoch_start()
        if self.global_rank > 0:
            torch.manual_seed(derive_seed(self._seed, "epoch", self.current_epoch, "rank", self.global_rank))

    def on_validation_epoch_start(self) -> None:
        """Take over the first process's buffers: its are the ones that are kept."""
        super().on_validation_epoch_start()
        for buffer in self.module.buffers():
            dist.broadcast(buffer, src=0)

    def on_validation_epoch_end(self) -> None:
        """Add up both tallies: the epoch's training is over, and the callbacks ask after this."""
        _add_up(self.train_tally, self.device)
        _add_up(self.val_tally, self.device)
        super().on_validation_epoch_end()


def _add_up(tally: Tally, device: torch.device) -> None:
    sums = torch.tensor([float(tally.loss), float(tally.hits), tally.count], dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    loss, hits, count = sums.tolist()
    tally.loss, tally.hits, tally.count = loss, hits, int(count)


@dataclass(frozen=True)
class _Load:
    """What a process is sent; `port` is where they find each other."""

    context: FitContext
    callbacks: list[Callback]
    port: int


class _Environment(LightningEnvironment):
    """Tells Lightning that the processes are there already, and which one this is."""

    def __init__(self, seat: Seat) -> None:
        super().__init__()
        self._seat = seat

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self._seat.rank

    def node_rank(self) -> int:
        return 0


def _train_share(seat: Seat, load: _Load) -> list[dict[str, Any]]:
    """In one of the processes: train, and return the states of the history and of the callbacks."""
    # It imports this module.
    from models.recipes.gradient import quiet, run_epochs

    quiet()
    warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
    # It costs a walk over the graph, and keeps the order in which gradients are added up; otherwise torch changes that
    # after the first batch, and a resumed fit would round differently from an undisturbed one on three devices or more.
    strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    context = _seated(load.context, seat)
    _meet(seat, load.port, context.device)
    history = History(seat.tell, seat.should_stop)
    callbacks = [history, *load.callbacks]
    gpu = context.device.type == "cuda"
    run_epochs(
        context,
        _classifier(context, seat),
        callbacks,
        devices=list(range(seat.count)) if gpu else seat.count,
        strategy=strategy,
        plugins=[_Environment(seat)],
    )
    return [callback.state_dict() for callback in callbacks]


def _seated(context: FitContext, seat: Seat) -> FitContext:
    device = torch.device("cuda", seat.rank) if context.device.type == "cuda" else context.device
    return replace(context, device=device, prepare=replace(context.prepare, device=device))


def _meet(seat: Seat, port: int, device: torch.device) -> None:
    store = _store(port, is_master=False)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", store=store, rank=seat.rank, world_size=seat.count, device_id=device)
    else:
        dist.init_process_group("gloo", store=store, rank=seat.rank, world_size=seat.count)


def _store(port: int, **more: Any) -> Any:
    return dist.TCPStore(_HOST, port, **more)  # type: ignore[attr-defined]


def _classifier(context: FitContext, seat: Seat) -> ShareClassifier:
    if context.device.type == "cuda":
        synchronize(context.module)
    size, val = batch_size(context), context.data.val
    share = val.subset(np.array_split(np.arange(len(val)), seat.count)[seat.rank])
    return ShareClassifier(
        context.module,
        context.protocol,
        lambda epoch: Share(replace(context.train_batches(epoch), batch_size=size), seat.rank, seat.count),
        lambda: EvalBatches(share, context.prepare),
        context.fit_seed,
        loss=loss_of(context.protocol, context.data.train.labels, context.num_classes),
    )


def synchronize(module: nn.Module) -> None:
    """Replace BatchNorms inside a module by such as take their statistics from the whole batch."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and _can_synchronize(child):
                setattr(parent, name, _synchronized(child))


def _can_synchronize(layer: nn.Module) -> bool:
    """Whether a BatchNorm is torch's or timm's; what another kind does besides, a conversion would leave out."""
    return type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm) or _is_timms(layer)


def _is_timms(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("timm.") and type(layer).__name__ == "BatchNormAct2d"


def _synchronized(layer: nn.Module) -> nn.Module:
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    if _is_timms(layer):
        # It has an activation in it, which torch's conversion would leave out.
        from timm.layers.norm_act import convert_sync_batchnorm

        convert = convert_sync_batchnorm
    return convert(layer)


def _silent(event: dict[str, Any]) -> None:
    pass


def _never() -> bool:
    return False

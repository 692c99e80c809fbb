"""A W&B report built by code, where the library for it (`wandb-workspaces`) is installed and W&B is online."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from bench.measure.columns import names_of
from reports.load.source import Source


def dashboard(source: Source, mode: str, project: str) -> str:
    """Make the dashboard of a run in a project; its address, or one sentence on why there is none.

    Args:
        source: the run.
        mode: of W&B: online, offline or off.
        project: of W&B.
    """
    if mode != "online":
        return "none: a dashboard needs --wandb online"
    if importlib.util.find_spec("wandb_workspaces") is None:
        return "none: `pip install wandb-workspaces` brings the library that builds one"
    try:
        report = build(source, project)
        report.save()
    except Exception as error:  # noqa: BLE001 - the runs are sent already; a lost dashboard must not hide that
        return f"none: W&B refused it ({type(error).__name__}: {error})"
    return str(report.url)


def build(source: Source, project: str, **where: str) -> Any:
    """The report: curves, quality against cost, and what the metrics mean.

    Args:
        project: W&B's project that the cells were sent to.
        where: `entity`, when it is not the logged-in user's own.
    """
    # Optional and untyped; it is only reached after `dashboard` has found it.
    wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
    runs = wr.Runset(project=project, name=source.name, filters=f"Metric('group') == '{source.name}'")
    panels = [
        wr.LinePlot(title="Validation accuracy", x="Step", y=["val_accuracy"]),
        wr.LinePlot(title="Loss", x="Step", y=["train_loss", "val_loss"]),
        wr.BarPlot(title="Accuracy", metrics=["accuracy"]),
        *(
            wr.ScatterPlot(title=f"{y} against {x}", x=x, y=y)
            for y in names_of("quality", level=1)
            for x in names_of("cost", level=1)
        ),
    ]
    about = "Metrics are fractions; COLUMN_low and COLUMN_high are 95 % bounds, found as interval_method says."
    blocks = [wr.H1(text=source.name), wr.P(text=about), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(project=project, title=f"{source.name}: benchmark", blocks=blocks, **where)

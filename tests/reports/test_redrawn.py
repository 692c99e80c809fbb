"""A report is drawn again as long as any file of it is missing or older than the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from reports.write import WRITTEN, draw


@pytest.mark.parametrize("lost", WRITTEN)
def test_a_report_that_a_kill_left_half_is_drawn_again(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], lost: str
) -> None:
    """The page is written first, and whoever died behind it left a report without tables for ever."""
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    page = draw(run.path, Console(quiet=True))
    assert {path.name for path in page.parent.iterdir() if path.is_file()} == set(WRITTEN)
    page.with_name(lost).unlink()
    draw(run.path, Console(quiet=True))
    assert {path.name for path in page.parent.iterdir() if path.is_file()} == set(WRITTEN)

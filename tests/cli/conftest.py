"""Commands on a backbone that runs in a second."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _tiny(tiny_backbone: None) -> None:
    """Known from the first of these tests on."""

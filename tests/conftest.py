"""What holds for every test: hypothesis profiles, and that no daemon writes outside its directory.

No deadlines on shared machines; the same examples on every CI run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True, scope="session")
def state_of_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nodes keep their key and invites here, as systemd would have told them."""
    before = os.environ.get("STATE_DIRECTORY")
    os.environ["STATE_DIRECTORY"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["STATE_DIRECTORY"]
    else:
        os.environ["STATE_DIRECTORY"] = before

"""What is imported is what is installed, and the three distributions are of one version."""

from __future__ import annotations

import importlib
from importlib.metadata import requires, version
from pathlib import Path

import pytest

DISTRIBUTIONS = ["lightspeed_protocol", "lightspeed_proxy", "lightspeed_client"]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_package_is_installed_and_not_an_empty_namespace(name: str) -> None:
    """Beside its project folder of the same name an uninstalled one would import, empty."""
    package = importlib.import_module(name)

    assert package.__file__ is not None
    assert Path(package.__file__).with_name("py.typed").exists()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_installed_version_is_the_one_in_the_source(name: str) -> None:
    assert version(name.replace("_", "-")) == importlib.import_module(name).__version__


def test_the_three_versions_are_one() -> None:
    versions = {importlib.import_module(name).__version__ for name in DISTRIBUTIONS}

    assert len(versions) == 1


@pytest.mark.parametrize("name", ["lightspeed-proxy", "lightspeed-client"])
def test_node_and_client_want_exactly_this_protocol(name: str) -> None:
    wanted = [line.replace(" ", "") for line in requires(name) or []]

    assert f"lightspeed-protocol[runtime]=={version(name)}" in wanted

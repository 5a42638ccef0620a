"""Machines in which nothing is installed yet, one for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine import Machine


@pytest.fixture
def fresh(boot: object) -> Iterator[Machine]:
    """A booted Debian 12 without the project."""
    with Machine("debian12") as machine:
        yield machine

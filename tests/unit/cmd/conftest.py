# SPDX-License-Identifier: Apache-2.0
"""A command ends its process; here several run in one."""

from collections.abc import Iterator
import logging

import pytest


@pytest.fixture(autouse=True)
def logging_of_one_command() -> Iterator[None]:
    """Take away the handlers that a command adds."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before

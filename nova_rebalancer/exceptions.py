# SPDX-License-Identifier: Apache-2.0
"""Errors by what the caller does next.

The text of each is one line for a person: what is wrong, where, with which value.
"""


class RebalancerError(Exception):
    """Stop: nothing here can be retried or skipped."""

    exit_code = 1


class InputError(RebalancerError):
    """A document or file is bad; correct it and run again."""


class UsageError(RebalancerError):
    """The call asks for something that cannot be; change the call."""

    exit_code = 2


class CloudError(RebalancerError):
    """The cloud does not answer, or not as it should; look at it and run again."""

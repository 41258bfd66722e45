# SPDX-License-Identifier: Apache-2.0
"""The options, as oslo-config-generator and the documentation ask for them."""

from oslo_config import cfg

from nova_rebalancer import conf


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Every group with its options, in the order of the sample file."""
    return [(module.GROUP, list(module.OPTIONS)) for module in conf.GROUPS]

# SPDX-License-Identifier: Apache-2.0
"""The question that the host rules answer."""

import dataclasses

from nova_rebalancer.checker import facts
from nova_rebalancer.checker import options


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """May ``instance``, on ``home`` when the snapshot was taken, ever be on ``dest``?"""

    cloud: facts.Cloud
    options: options.Options
    instance: facts.Instance
    home: facts.Host
    dest: facts.Host

# SPDX-License-Identifier: Apache-2.0
"""The options of carrying out reach what carries out."""

import dataclasses
from typing import Any

from oslo_config import cfg

from nova_rebalancer import conf
from nova_rebalancer.cmd import stage
from nova_rebalancer.conf import execute
from nova_rebalancer.conf import store
from nova_rebalancer.execute import executor
from nova_rebalancer.execute import gate

ELSEWHERE = {"request_timeout_s"}
"""Options that the connection takes, not the executor."""

NOT_SET = {"limits", "links", "rate_mibps", "overhead_s"}
"""What the executor has from somewhere else."""


def careful(tmp_path, text: str = "", plan: dict[str, Any] | None = None) -> executor.Options:
    """What a configuration file with this text, and these options of a plan, give."""
    file = tmp_path / "nova-rebalancer.conf"
    file.write_text(text)
    options = cfg.ConfigOpts()
    conf.register(options)
    options(["--config-file", str(file)], default_config_dirs=[])
    return stage.careful(options, {} if plan is None else plan)


def test_every_option_is_used():
    """No option of [execute] is without effect, and nothing can be set in the code alone."""
    fields = {field.name for kind in (executor.Options, gate.Limits) for field in
              dataclasses.fields(kind)}  # fmt: skip
    assert {option.dest for option in execute.OPTIONS} == fields - NOT_SET | ELSEWHERE


def test_every_option_arrives(tmp_path):
    """A value in the file is the value that counts, of each number and limit."""
    values = {}
    for option in execute.OPTIONS:
        if isinstance(option, cfg.IntOpt):
            values[option.dest] = 7
        elif isinstance(option, cfg.FloatOpt):
            values[option.dest] = 0.5 if option.type.max == 1 else 77.0
    values.update(on_time_limit="wait", cold_migration=True, stop_on_error=False)
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    found = careful(tmp_path, f"[execute]\n{lines}[path]\nmigration_rate_mibps = 123\n")
    for name, value in values.items():
        if name not in ELSEWHERE:
            where = found.limits if hasattr(found.limits, name) else found
            assert getattr(where, name) == value, name
    assert found.rate_mibps == 123.0


def test_defaults_are_said_once(tmp_path):
    """Without a file the executor is as careful as its own defaults; the limits are stricter."""
    found = careful(tmp_path)
    own = executor.Options()
    assert dataclasses.replace(found, limits=own.limits) == own
    shares = dataclasses.replace(found.limits, project_share=1.0, group_share=1.0)
    assert shares == own.limits
    assert found.limits.project_share < 1.0 and found.limits.group_share < 1.0


def test_limits_of_the_plan_count_too(tmp_path):
    """Of two limits the smaller one counts; of links both lists do."""
    text = "[execute]\ntotal = 4\n[path]\nlinks = uplink=2\n"
    assert careful(tmp_path, text, {"total": 3}).limits.total == 3
    assert careful(tmp_path, text, {"total": 9}).limits.total == 4
    assert careful(tmp_path, text, {"total": None}).limits.total == 4
    found = careful(tmp_path, text, {"links": ["network=1"]}).limits.links
    assert found == (("uplink=2",), ("network=1",))


def test_the_password_is_hidden():
    """The journal's URL may have a password, so it is not written into logs."""
    (connection,) = [option for option in store.OPTIONS if option.dest == "connection"]
    assert connection.secret

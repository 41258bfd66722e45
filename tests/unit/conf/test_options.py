# SPDX-License-Identifier: Apache-2.0

import io
import pathlib
import pkgutil

from oslo_config import cfg
from oslo_config import generator
import pytest

from nova_rebalancer import conf
from nova_rebalancer.conf import opts


def read(*arguments: str) -> cfg.ConfigOpts:
    """Our options as a program with these arguments sees them."""
    options = cfg.ConfigOpts()
    conf.register(options)
    options(arguments, default_config_files=[], default_config_dirs=[])
    return options


def test_defaults():
    """Without a file the limits are those of the command line's help."""
    options = read()
    assert options.planner.planner == "auto"
    assert options.planner.time_limit_s == 30
    assert options.planner.max_migrations == 50
    assert options.planner.seed == 0
    assert options.fragmentation.cores == [16]


def test_register_twice():
    """A second caller may register too."""
    options = read()
    conf.register(options)
    assert options.path.host_outgoing == 1


def test_every_option_is_listed():
    """What can be set is in the sample file: list_opts knows each registered option."""
    options = read()
    for group, members in opts.list_opts():
        assert set(options[group.name]) == {option.dest for option in members}


def test_every_module_is_a_group():
    """No file of the package was forgotten in GROUPS."""
    modules = {module.name for module in pkgutil.iter_modules(conf.__path__)}
    assert {module.GROUP.name for module in conf.GROUPS} == modules - {"opts"}


def test_sample_file_is_fresh(monkeypatch):
    """The committed sample is what the options give now; if not, run ``tox -e genconfig``."""
    root = pathlib.Path(__file__).parents[3]
    monkeypatch.chdir(root)
    generator_options = cfg.ConfigOpts()
    generator.register_cli_opts(generator_options)
    generator_options(
        ["--config-file", "etc/nova-rebalancer/nova-rebalancer-config-generator.conf"]
    )
    fresh = io.StringIO()
    generator.generate(generator_options, output_file=fresh)
    assert (root / generator_options.output_file).read_text() == fresh.getvalue()


def test_every_option_is_explained():
    """Each help says more than the option's name: what it does and when to change it."""
    for group, members in opts.list_opts():
        assert group.title and group.help, group.name
        for option in members:
            assert len(option.help.split()) >= 25, f"[{group.name}] {option.name}"


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("planner", "time_limit_s", "-1"),
        ("planner", "max_migrations", "-1"),
        ("planner", "plan_expires_s", "0"),
        ("fragmentation", "cores", "0"),
        ("path", "migration_rate_mibps", "0"),
        ("path", "dirty_rate_mibps", "-1"),
        ("path", "migration_downtime_s", "0"),
        ("path", "migration_timeout_s", "-1"),
        ("path", "prefer", "both"),
        ("path", "host_outgoing", "0"),
        ("path", "host_incoming", "none"),
        ("execute", "total", "0"),
        ("execute", "per_source", "0"),
        ("execute", "per_hour", "-1"),
        ("execute", "project_share", "1.5"),
        ("execute", "time_factor", "0.5"),
        ("execute", "on_time_limit", "ignore"),
        ("execute", "attempts", "0"),
        ("execute", "drift_share", "-0.1"),
        ("store", "keep_days", "0"),
    ],
)
def test_impossible_value_is_refused(tmp_path, group, name, value):
    """A value without a meaning never reaches a planner; the error names the option."""
    file = tmp_path / "nova-rebalancer.conf"
    file.write_text(f"[{group}]\n{name} = {value}\n")
    options = read("--config-file", str(file))
    with pytest.raises(cfg.ConfigFileValueError, match=name):
        options[group][name]


def test_no_time_is_a_valid_wish(tmp_path):
    """A limit of 0 seconds is allowed: the plan is then what the start solution gives."""
    file = tmp_path / "nova-rebalancer.conf"
    file.write_text("[planner]\ntime_limit_s = 0\n")
    assert read("--config-file", str(file)).planner.time_limit_s == 0

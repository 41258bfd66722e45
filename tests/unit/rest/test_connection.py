# SPDX-License-Identifier: Apache-2.0
"""A cloud is found where its operator describes it, and what is wrong there is one clear line."""

import os
import pathlib

from oslo_config import cfg
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.conf import cloud as options
from nova_rebalancer.rest import client
from nova_rebalancer.rest import connection
from tests.unit.collect import emulator


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A cloud called "here" in clouds.yaml, and no OS_* variables."""
    for name in os.environ:
        if name.startswith("OS_"):
            monkeypatch.delenv(name)
    with emulator.running(tmp_path, monkeypatch) as running:
        yield running


def asked(found: connection.Connection) -> bool:
    """Whether the cloud answers."""
    ask = client.Client(found, client.Limits(attempts=1))
    return ask.get("compute", "/os-aggregates", "2.100") == {"aggregates": []}


def clouds_yaml() -> pathlib.Path:
    """The file that describes the clouds."""
    return pathlib.Path(os.environ["OS_CLIENT_CONFIG_FILE"])


def test_by_name(server):
    """The name in clouds.yaml is what the cloud is called from then on."""
    found = connection.connect("here", 5.0)
    assert (found.name, found.region) == ("here", "RegionOne")
    assert asked(found)
    assert found.account().roles == ("admin", "member")


def test_nothing_is_asked_yet(server):
    """Opening a cloud sends nothing, so a wrong password shows with the first request."""
    connection.connect("here", 5.0)
    assert server.lines() == []


def test_os_cloud(server, monkeypatch):
    """OS_CLOUD names it as well."""
    monkeypatch.setenv("OS_CLOUD", "here")
    found = connection.connect(None, 5.0)
    assert found.name == "here"
    assert asked(found)


def test_openrc(server, monkeypatch):
    """So do the variables of an openrc file, without any clouds.yaml."""
    clouds_yaml().unlink()
    for name, value in {
        "AUTH_URL": f"{server.root}/identity/v3",
        "USERNAME": "planner",
        "PASSWORD": "secret",
        "PROJECT_NAME": "admin",
        "USER_DOMAIN_NAME": "Default",
        "PROJECT_DOMAIN_NAME": "Default",
        "REGION_NAME": "RegionOne",
    }.items():
        monkeypatch.setenv(f"OS_{name}", value)
    found = connection.connect(None, 5.0)
    assert found.name == "envvars"
    assert asked(found)


def test_no_cloud_is_named(server):
    """Without any name it is said how to give one, and which there are."""
    with pytest.raises(exceptions.UsageError, match=r"OS_CLOUD.*clouds.yaml has: here"):
        connection.connect(None, 5.0)


def test_unknown_cloud(server):
    """A name that clouds.yaml lacks is told with those it has."""
    with pytest.raises(exceptions.UsageError, match=r"'there'.*clouds.yaml has: here"):
        connection.connect("there", 5.0)


def test_no_file(server):
    """Without a clouds.yaml that is said."""
    clouds_yaml().unlink()
    with pytest.raises(exceptions.UsageError, match=r"no clouds\.yaml was found"):
        connection.connect("here", 5.0)


@pytest.mark.parametrize(
    "text",
    [
        "clouds:\n  here:\n   auth: {]",
        "clouds: [here]",
        "clouds: {here: null}",
        "clouds: {here: {auth: null}}",
        "just words",
        "",
    ],
)
def test_broken_file(server, text):
    """A clouds.yaml that cannot be used is one line, not a traceback."""
    clouds_yaml().write_text(text)
    with pytest.raises(exceptions.UsageError) as raised:
        connection.connect("here", 5.0)
    assert "\n" not in str(raised.value)


def test_incomplete_description(server):
    """A cloud without an address is told before anything is asked, or at the first request."""
    clouds_yaml().write_text("clouds: {here: {auth: {username: u, password: p}}}")
    with pytest.raises((exceptions.UsageError, exceptions.CloudError), match="here"):
        client.Client(connection.connect("here", 5.0), client.Limits(attempts=1)).identity()


def test_identity(server, monkeypatch):
    """Another account or region is another cloud for what is remembered; the same one is not."""
    first = client.Client(connection.connect("here", 5.0), client.Limits()).identity()
    assert client.Client(connection.connect("here", 5.0), client.Limits()).identity() == first
    monkeypatch.setattr(emulator, "PROJECT", "8" * 32)
    assert client.Client(connection.connect("here", 5.0), client.Limits()).identity() != first


def test_unknown_region(server):
    """A region without the services is told by its name."""
    text = clouds_yaml().read_text().replace("RegionOne", "RegionTwo")
    clouds_yaml().write_text(text)
    found = connection.connect("here", 5.0)
    with pytest.raises(exceptions.CloudError, match=r"here: .*RegionTwo"):
        client.Client(found, client.Limits(attempts=1)).get("compute", "/os-aggregates", "2.100")


def section(tmp_path: pathlib.Path, text: str) -> cfg.ConfigOpts:
    """Options read from a configuration file."""
    path = tmp_path / "nova-rebalancer.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    # A group of our own: what is registered later stays in the one they share.
    conf.register_opts(options.OPTIONS, cfg.OptGroup("cloud"))
    conf(["--config-file", str(path)], project="nova-rebalancer", default_config_files=[])
    return conf


def test_own_section(server, tmp_path):
    """The section [cloud] of our own file has everything, as other services have it."""
    conf = section(
        tmp_path,
        f"""[cloud]
auth_type = password
auth_url = {server.root}/identity/v3
username = planner
password = secret
project_name = admin
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
""",
    )
    assert asked(connection.connect(None, 5.0, conf))


def test_section_names_a_cloud(server, tmp_path):
    """Or it names a cloud of clouds.yaml."""
    found = connection.connect(None, 5.0, section(tmp_path, "[cloud]\nos_cloud = here\n"))
    assert found.name == "here"
    assert asked(found)


def test_the_call_wins(server, tmp_path):
    """What the call names counts, whatever the section says."""
    conf = section(tmp_path, "[cloud]\nos_cloud = there\n")
    assert connection.connect("here", 5.0, conf).name == "here"


def test_broken_section(server, tmp_path):
    """A section with an unknown way to log in is told as that."""
    conf = section(tmp_path, "[cloud]\nauth_type = magic\n")
    with pytest.raises(exceptions.UsageError, match=r"\[cloud\].*magic"):
        connection.connect(None, 5.0, conf)

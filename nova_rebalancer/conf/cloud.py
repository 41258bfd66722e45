# SPDX-License-Identifier: Apache-2.0
"""Which cloud, and as whom."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "cloud",
    title="Cloud options",
    help="""
The cloud that is read when the command line names none. Either a name in
clouds.yaml, or credentials in this section, in the options that keystoneauth
gives every OpenStack service (auth_type, auth_url, username, password,
project_name, user_domain_name, project_domain_name, cafile and so on).
""",
)

OPTIONS = [
    cfg.StrOpt(
        "os_cloud",
        help="""
Name of the cloud in clouds.yaml.

``--os-cloud`` on the command line is stronger. Without both, and without
``auth_type`` here, the environment decides: OS_CLOUD, or the OS_* variables
of an openrc file.
""",
    ),
    cfg.StrOpt(
        "region_name",
        help="""
Region of the cloud, if its catalogue has several and ``auth_type`` is set
here. One run reads one region: use a configuration file for each. In
clouds.yaml the region is part of the cloud's description.
""",
    ),
    cfg.StrOpt(
        "interface",
        default="public",
        help="""
Which endpoints are used when ``auth_type`` is set here: public, internal or
admin. Use internal from inside the control plane's network, where it saves
the way through the public proxy.
""",
    ),
]

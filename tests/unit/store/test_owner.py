# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import sys

import pytest

from nova_rebalancer.store import owner


def test_we_live():
    """Whoever signs is alive, whatever the beat says: the kernel knows better."""
    assert owner.alive(owner.me(), None, 1e9)


def test_the_name_says_who():
    """Host, process and start can be told apart; the process is ours."""
    host, pid, start = owner.me().split(":")
    assert host
    assert int(pid) == os.getpid()
    assert int(start) > 0


def test_another_process_of_our_number_is_not_us():
    """A number that the kernel gave to somebody else meanwhile is no sign of life."""
    host, pid, start = owner.me().split(":")
    assert not owner.alive(f"{host}:{pid}:{int(start) - 1}", 0.0, 0.0)


def test_who_ended_is_dead_at_once():
    """Also as a zombie, that is before its parent has asked for the exit code."""
    code = "from nova_rebalancer.store import owner; print(owner.me(), flush=True); input()"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        signed = process.stdout.readline().strip()
        assert owner.alive(signed, None, 0.0)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not owner.alive(signed, 0.0, 0.0)
    assert not owner.alive(signed, 0.0, 0.0)


@pytest.mark.parametrize("signed", ["far.example:1:1", "no owner", "", ":::", "a:b:c"])
def test_who_is_elsewhere_lives_by_its_beat(signed):
    """Of what cannot be looked at only the beat tells; it counts for a minute."""
    assert owner.alive(signed, 1000.0, 1059.9)
    assert not owner.alive(signed, 1000.0, 1060.0)
    assert not owner.alive(signed, None, 1000.0)
    # Its clock is ahead of ours.
    assert owner.alive(signed, 1000.0, 990.0)

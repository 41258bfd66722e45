# SPDX-License-Identifier: Apache-2.0
"""A snapshot document of a live cloud: read it, put the operator's facts in, remember it."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import gc
import hashlib
import logging
import os
import pathlib

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import consistency
from nova_rebalancer.collect import document
from nova_rebalancer.collect import facts
from nova_rebalancer.collect import files
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.model import cloud
from nova_rebalancer.model import scope
from nova_rebalancer.rest import client
from nova_rebalancer.rest import connection

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """How a cloud is read."""

    limits: client.Limits
    full_every_s: float = 3600.0
    check_every_s: float = 900.0
    facts_file: str | None = None
    fresh: bool = False
    """Whether to use nothing of an earlier reading."""
    cache: bool = True
    """Whether to remember this one for the next."""


@dataclasses.dataclass(frozen=True)
class Live:
    """A snapshot of now: the document's bytes, what is in them, and what it took.

    ``reading`` is what the whole cloud answered, also where the document has a part of it.
    """

    data: bytes
    snapshot: cloud.Snapshot
    sha256: str
    requests: int
    reading: reading.Reading


def snapshot(
    source: connection.Connection,
    options: Options,
    progress: reader.Progress,
    part: scope.Scope | None = None,
) -> Live:
    """Read a cloud; with ``part`` the document has only the hosts of that scope.

    Raises
    ------
    CloudError
        If the cloud cannot be read.
    InputError
        If the facts file is bad.
    UsageError
        If the scope names what is not there.
    """
    told = facts.load(options.facts_file) if options.facts_file else None
    with _no_garbage():
        return _read(source, options, progress, part, told)


def _read(
    source: connection.Connection,
    options: Options,
    progress: reader.Progress,
    part: scope.Scope | None,
    told: facts.Facts | None,
) -> Live:
    ask = client.Client(source, options.limits)
    path = None
    earlier = None
    if options.cache:
        identity = ask.identity()
        path = _cache_file(identity)
        if not options.fresh:
            earlier = reading.load(path, identity)
    now = reader.Reader(ask, progress).read(earlier, full_every_s=options.full_every_s)
    # The cloud's time is known to a second: it may seem to go back a little.
    if now.started - now.checked_at >= options.check_every_s - reader.OVERLAP_S:
        for one in consistency.sums(ask, now, progress):
            LOG.warning("%s", one.text)
        now.checked_at, now.requests = now.started, ask.requests
    if path is not None:
        try:
            reading.save(now, path)
        except OSError as error:
            LOG.warning("%s: cannot be written (%s): the next pass is as slow", path, error)
    if part is None or not part.names:
        return _live(now, source, told, None, LOG.warning)
    whole = _live(now, source, told, None, lambda text: None)
    return _live(now, source, told, part.hosts(whole.snapshot), LOG.warning)


def _live(
    now: reading.Reading,
    source: connection.Connection,
    told: facts.Facts | None,
    hosts: frozenset[str] | None,
    say: Callable[[str], None],
) -> Live:
    made = assemble.document(now, source.name, source.region, hosts, say)
    if told is not None:
        for warning in facts.apply(made, told):
            say(warning)
    data = files.to_json(made)
    try:
        result = document.snapshot(made, "what it says makes no sound snapshot")
    except exceptions.InputError as error:
        raise exceptions.CloudError(f"cloud {source.name}: {error}") from None
    return Live(data, result, hashlib.sha256(data).hexdigest(), now.requests, now)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Nothing of what is read here is garbage, and looking for it takes half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _cache_file(identity: str) -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return pathlib.Path(home) / "nova-rebalancer" / f"reading-{name}.json"

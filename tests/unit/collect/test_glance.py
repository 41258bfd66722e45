# SPDX-License-Identifier: Apache-2.0
"""The traits that images require are found in a few requests, whoever the images belong to."""

from urllib import parse

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import glance
from tests.unit.collect import emulator

FAST = {"trait:CUSTOM_FAST": "required"}


def asked(world: emulator.World, names: list[str]) -> tuple[dict[str, dict[str, str] | None], list]:
    """What is found, and the queries it took."""
    queries = []

    def note(path: str, answer: object) -> object:
        queries.append(dict(parse.parse_qsl(parse.urlsplit(path.partition(" ")[2]).query)))
        return answer

    return glance.traits(emulator.Direct(world, note), names), queries


@pytest.fixture
def world():
    """A cloud without servers."""
    return emulator.World()


def test_traits_only(world):
    """Of all properties those that ask for traits are told; an image may have none."""
    fast = world.image(os_distro="debian", **FAST)
    plain = world.image(hw_disk_bus="virtio")
    world.image(**FAST)
    found, queries = asked(world, [fast, plain])
    assert found == {fast: FAST, plain: {}}
    assert len(queries) == 1


@pytest.mark.parametrize("visibility", ["public", "private", "shared", "community"])
def test_every_image(world, visibility):
    """An administrator sees each image, hidden ones and those of other projects too."""
    shown = world.image(owner="another", visibility=visibility, **FAST)
    hidden = world.image(owner="another", visibility=visibility, os_hidden=True, **FAST)
    found, queries = asked(world, [shown, hidden])
    assert found == {shown: FAST, hidden: FAST}
    assert [(one["os_hidden"], one["id"]) for one in queries] == [
        ("false", f"in:{shown},{hidden}"),
        ("true", f"in:{hidden}"),
    ]


def test_image_that_is_gone(world):
    """What Glance does not show has no traits that are known, not none."""
    found, _ = asked(world, ["gone"])
    assert found == {"gone": None}


def test_image_of_another_project(world):
    """Neither has what it shows to others only."""
    private = world.image(owner="another", visibility="private", **FAST)
    world.roles = ["reader"]
    found, _ = asked(world, [private])
    assert found == {private: None}


def test_no_images(world):
    """Who has no images asks nothing."""
    assert asked(world, []) == ({}, [])


@pytest.mark.parametrize("pages", [1000, glance.AT_ONCE, glance.AT_ONCE - 1, 7, 1])
@pytest.mark.parametrize("count", [glance.AT_ONCE, glance.AT_ONCE + 1])
def test_many_images(world, count, pages):
    """However many there are and however Glance cuts its pages, each image is told."""
    world.image_pages = pages
    names = [world.image(**{f"trait:CUSTOM_{n}": "required"}) for n in range(count)]
    found, queries = asked(world, names)
    assert found == {name: {f"trait:CUSTOM_{n}": "required"} for n, name in enumerate(names)}
    assert all(len(parse.urlencode(one)) < 3000 for one in queries)


def test_what_nova_tells_itself():
    """A server that shows the image its image was made from shows all that Nova kept."""
    for properties, told in (({"hw_disk_bus": "ide"}, False), ({"base_image_ref": "x"}, True)):
        assert glance.told({"image": {"id": "i", "properties": properties}}) is told


def test_answer_without_images(world):
    """An answer that is no list of images is an error that can be told."""
    ask = emulator.Direct(world, lambda path, answer: {})
    with pytest.raises(exceptions.CloudError, match="without a list of images"):
        glance.traits(ask, ["i"])

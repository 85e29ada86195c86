"""The worker's services as code holds them that goes through them while the worker gets others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bridge.segment.remote import RemoteServices


@pytest.mark.parametrize('look', [RemoteServices.items, RemoteServices.values, iter])
def test_who_goes_through_the_services_goes_on_although_others_come_and_go(
    look: Callable[[RemoteServices], Iterable[Any]],
) -> None:
    """A reload in that moment raised RuntimeError, or KeyError, in the program."""
    services = RemoteServices(['a', 'b'], lambda: True, lambda event: {event: ()})
    before, seen = list(look(services)), []
    for one in look(services):
        services.follow(['b', 'c'])
        seen.append(one)
    assert seen == before and list(services) == ['b', 'c']
    assert services['b'] is dict(services)['b'] and len(services.values()) == 2

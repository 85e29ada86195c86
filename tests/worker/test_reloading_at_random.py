"""Random lists of services, taken over under traffic: nothing is lost or comes twice, lines stay where they are."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from peers import StockServer, eventually

from bridge.changes import kept_lines
from bridge.config import RigConfig, ServiceConfig
from bridge.errors import ServiceFailure
from bridge.numbers import MESSAGES
from bridge.segment.client import Client
from bridge.segment.served import RELOAD

NAMES = 'abcdef'
INIT = MESSAGES['EXPINIT']


class Files:
    """What the files say; `past` has all lists that there ever were, as names and addresses."""

    def __init__(self, servers, seed):
        self._servers, self._random = servers, random.Random(seed)
        self.past = []
        self.change()

    def change(self):
        """Think of another list: of some servers, under any names, in any order, with any settings."""
        servers = self._random.sample(self._servers, self._random.randint(1, len(self._servers)))
        names = self._random.sample(NAMES, len(servers))
        self.services = {
            name: ServiceConfig(
                name,
                server.uri,
                reply_gap=0.005,
                optional=self._random.random() < 0.3,
                timeout=self._random.choice([20.0, 30.0]),
            )
            for name, server in zip(names, servers, strict=True)
        }
        self.past.append({name: one.uri for name, one in self.services.items()})

    def read(self):
        return RigConfig(self.services, ask=False)


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(StockServer()) for _ in range(5)]


def seen(servers):
    """Return how often each service was given each EXPINIT, by address and what it carried."""
    return Counter((server.uri, one[1]) for server in servers for one in server.saw if one[0] == INIT)


@pytest.mark.parametrize('seed', range(3))
def test_after_each_of_many_reloads_the_rig_is_as_the_pure_function_says(serve, servers, seed):
    files = Files(servers, seed)
    worker = serve('rig', list(files.services.values()), reread=files.read)
    with Client('rig') as client:
        for number in range(25):
            before, lines = files.past[-1], {name: link.line for name, link in worker._carrier.links.items()}
            files.change()
            client.call(RELOAD, timeout=20)
            after = files.past[-1]
            kept = kept_lines(before, after)
            now = {name: link.line for name, link in worker._carrier.links.items()}
            assert list(now) == list(after)
            assert all((now[name] is lines.get(kept.get(name))) == (name in kept) for name in now)
            told = client.call('SERVICES')['services']
            assert [(one['name'], one['data']['uri']) for one in told] == list(after.items())
            body = client.call('EXPINIT', f'{seed}-{number}', timeout=20)
            assert {one['name'] for one in body['services'] if one['ok']} == set(after)
            assert {uri for uri, what in seen(servers) if what == f'{seed}-{number}'} == set(after.values())
        assert set(seen(servers).values()) == {1}
        eventually(lambda: not worker._carrier.former, 40)
        assert set(worker._carrier.ports) == set(after)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_of_a_thousand_commands_while_services_come_and_go_none_is_lost_and_none_comes_twice(serve, servers, seed):
    files = Files(servers, seed)
    serve('rig', list(files.services.values()), reread=files.read)
    bodies, reloads, stop = [], [], threading.Event()

    def command(program):
        with Client('rig', f'program-{program}') as client:
            for number in range(250):
                request = client.send('EXPINIT', f'{program}-{number}', ttl=None)
                try:
                    bodies.append((f'{program}-{number}', client.wait(request, 60)))
                except ServiceFailure as error:
                    bodies.append((f'{program}-{number}', error.response))

    def reload():
        with Client('rig', 'reload') as client:
            while not stop.wait(0.05):
                files.change()
                reloads.append(client.call(RELOAD, timeout=60)['code'])

    programs = [threading.Thread(target=command, args=(program,)) for program in range(4)]
    reloading = threading.Thread(target=reload)
    for one in (*programs, reloading):
        one.start()
    for one in programs:
        one.join(500)
    stop.set()
    reloading.join(60)
    assert len(reloads) > 20 and not any(reloads)
    assert len(bodies) == len({what for what, _ in bodies}) == 1000
    lists = [sorted(services) for services in files.past]
    expected = Counter()
    for what, body in bodies:
        assert body['code'] == 0, body
        assert sorted(one['name'] for one in body['services']) in lists
        expected[what] = len(body['services'])
    found = seen(servers)
    assert set(found.values()) == {1}
    assert Counter(what for _, what in found.elements()) == expected
    assert not [one for server in servers for one in server.saw if one[0] == 'closed itself']

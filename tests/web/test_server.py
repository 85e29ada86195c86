"""The server of the page: what it gives to whom, however the question is put, and how many it serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from peers import eventually
from test_board import at, listening, report, running

pytest.importorskip('aiohttp', reason='the extra web is not installed')
pytest.importorskip('prometheus_client', reason='the extra web is not installed')

from bridge.segment.inspection import Service  # noqa: E402
from bridge.web import guard, metrics, server  # noqa: E402
from bridge.web.board import Board  # noqa: E402

TOKEN = 'a-long-word-of-your-own'
STATE = running().snapshot(at(10))
LABELS = ('segment', 'service', 'listener', 'message', 'result')
LISTENERS = ('up', 'heard_seconds', 'status', 'refused')  # what Prometheus reads of each


class FakeRig:
    """What is behind the page."""

    def __init__(self) -> None:
        self.pressed = 0
        self.block = threading.Event()
        self.block.set()

    def press(self) -> dict[str, Any]:
        self.pressed += 1
        self.block.wait(10)
        return {'sent': True, 'code': 0, 'code_name': '', 'error': '', 'services': []}

    def metrics(self, pages: int) -> bytes:
        return metrics.metrics(STATE, Counter({('EXPSTART', 'done'): 2, ('EXPEND', 'failed'): 1}), pages)


class Served:
    """A page that is served in a thread."""

    def __init__(self, token: str = '', hosts: tuple[str, ...] = ()) -> None:
        self.rig = FakeRig()
        self.loop = asyncio.SelectorEventLoop()
        listening = server.bound('127.0.0.1', 0)
        self.port = listening.getsockname()[1]
        self.host = f'127.0.0.1:{self.port}'
        self.page = server.Page(self.rig, 'rig0', token, hosts)
        self._listening = listening
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Served:
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with server.serving(self.page, self._listening):
            self._ready.set()
            await self._stop.wait()

    def is_full(self) -> bool:
        return sum('RequestHandler' in repr(task) for task in asyncio.all_tasks(self.loop)) >= server.CONNECTIONS

    def show(self, state: Any = STATE) -> None:
        self.loop.call_soon_threadsafe(self.page.newest.show, json.dumps(state))

    def ask(self, path: str, method: str = 'GET', **headers: str) -> tuple[http.client.HTTPResponse, str]:
        """Return the response to a request, and its text; the path is sent as it is."""
        with closing(http.client.HTTPConnection('127.0.0.1', self.port, timeout=10)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {'Host': self.host, **headers}.items():
                connection.putheader(name.replace('_', '-'), value)
            connection.endheaders()
            response = connection.getresponse()
            return response, response.read().decode()

    def press(self, **headers: str) -> tuple[int, str]:
        token = re.search('name="press" content="([^"]+)"', self.ask('/')[1])[1]
        given = {'Origin': f'http://{self.host}', guard.PRESS: token, 'Content-Length': '0', **headers}
        response, text = self.ask('/api/interrupt', 'POST', **given)
        return response.status, text

    @contextmanager
    def looking(self, headers: str = '') -> Iterator[socket.socket]:
        """Look at the events, as a socket that has asked."""
        with socket.create_connection(('127.0.0.1', self.port)) as sock:
            sock.sendall(f'GET /api/events HTTP/1.1\r\nHost: {self.host}\r\n{headers}\r\n'.encode())
            yield sock


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as served:
        yield served


def test_the_page_its_files_the_state_and_the_metrics_are_served(served):
    served.show()
    for path, kind in (
        ('/', 'text/html'), ('/page.js', 'text/javascript'), ('/words.js', 'text/javascript'),
        ('/page.css', 'text/css'), ('/icon.svg', 'image/svg+xml'), ('/api/state', 'application/json'),
        ('/metrics', 'text/plain'),
    ):  # fmt: skip
        response, text = served.ask(path)
        assert response.status == 200 and response.headers['Content-Type'].startswith(kind), path
        assert text
    assert json.loads(served.ask('/api/state')[1]) == STATE


def test_each_answer_says_what_a_browser_may_do_with_it_also_that_there_is_no_such_page(served):
    for path in ('/', '/page.js', '/nothing', '/api/state', '/api/interrupt'):
        response, _ = served.ask(path)
        assert {name: response.headers[name] for name in guard.HEADERS} == guard.HEADERS, path


def test_the_page_has_no_script_and_no_style_inline(served):
    _, text = served.ask('/')
    assert re.findall('<script[^>]*>(.*?)</script>', text, re.DOTALL) == ['']
    assert not re.search(r'<style|\sstyle=|\son[a-z]+=|javascript:|https?://', text)
    assert '{{' not in text and 'rig0' in text


@pytest.mark.parametrize(
    'path',
    ['/../page.js', '/static/page.js', '/..%2f..%2fconfig.py', '/%2e%2e/server.py', '//etc/passwd', '/page.js/../../x',
     '/page.html', '/page.js%00', '/server.py'],
)  # fmt: skip
def test_no_other_file_can_be_had_whatever_the_address_says(served, path):
    response, text = served.ask(path)
    assert response.status in (400, 404) and 'import' not in text and 'root:' not in text


def test_a_name_that_is_none_of_this_pc_is_not_answered_and_a_configured_one_is():
    with Served(hosts=('rig0.lab.example',)) as served:
        served.show()
        for path in ('/', '/api/state', '/api/events', '/metrics', '/page.js'):
            response, text = served.ask(path, Host='evil.example')
            assert response.status == 421 and 'cameras' not in text
        for host in ('rig0.lab.example', 'localhost:1', '192.168.0.3', socket.gethostname()):
            assert served.ask('/api/state', Host=host)[0].status == 200
        assert served.press(Host='evil.example', Origin='http://evil.example')[0] == 421
        assert served.rig.pressed == 0


def test_the_button_is_pressed_by_our_page_and_by_no_other(served):
    assert served.press()[0] == 200
    assert served.rig.pressed == 1
    for headers in ({'Origin': 'http://evil.example'}, {'Origin': 'null'}, {'Sec_Fetch_Site': 'cross-site'},
                    {guard.PRESS: 'guessed'}):  # fmt: skip
        status, text = served.press(**headers)
        assert status == 403 and text.startswith('Nothing was sent: ')
    for method in ('GET', 'PUT', 'OPTIONS'):
        response, _ = served.ask('/api/interrupt', method)
        assert response.status == 405 and 'Access-Control-Allow-Origin' not in response.headers
    assert served.rig.pressed == 1


def test_a_button_that_takes_long_holds_no_page_up(served):
    served.show()
    served.rig.block.clear()
    presser = threading.Thread(target=served.press)
    presser.start()
    eventually(lambda: served.rig.pressed)
    assert served.ask('/api/state')[0].status == 200
    served.rig.block.set()
    presser.join(10)


def test_with_a_token_nothing_is_had_without_it_and_it_leaves_the_address_at_once():
    with Served(TOKEN) as served:
        served.show()
        for path in (
            '/',
            '/api/state',
            '/api/events',
            '/metrics',
            '/page.js',
            '/?token=wrong',
            f'/api/state?token={TOKEN}',
        ):
            assert served.ask(path)[0].status == 401, path
        response, _ = served.ask(f'/?token={TOKEN}')
        cookie = response.headers['Set-Cookie']
        assert (response.status, response.headers['Location']) == (303, '/')
        assert 'HttpOnly' in cookie and 'SameSite=Lax' in cookie
        assert served.ask('/', Cookie=cookie.partition(';')[0])[0].status == 200
        assert served.ask('/metrics', Authorization=f'Bearer {TOKEN}')[0].status == 200
        assert served.ask('/api/interrupt', 'POST', Origin=f'http://{served.host}')[0].status == 401


def test_a_state_is_sent_when_it_comes_and_the_newest_to_who_comes_later(served):
    served.show({'number': 1})
    with served.looking() as first, first.makefile('rb') as lines:
        assert any(b'data: {"number": 1}' in line for line in iter(lines.readline, b'')), 'the newest, at once'
        served.show({'number': 2})
        while (line := lines.readline()) != b'data: {"number": 2}\n':
            assert line


def test_an_old_state_is_not_given_out_as_if_it_were_new(served, monkeypatch):
    assert served.ask('/api/state')[0].status == 503, 'there is none yet'
    served.show()
    assert served.ask('/api/state')[0].status == 200
    monkeypatch.setattr(server, 'OLD', 0.0)
    assert served.ask('/api/state')[0].status == 503
    assert served.ask('/metrics')[0].status == 503


def test_one_browser_too_many_is_told_and_who_leaves_makes_room(served, monkeypatch):
    monkeypatch.setattr(server, 'BROWSERS', 2)
    served.show()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(served.looking())
        eventually(lambda: served.page.newest.looking == 2)
        response, text = served.ask('/api/events')
        assert response.status == 503 and '2 browsers' in text
        assert served.ask('/api/state')[0].status == 200
    eventually(lambda: served.show() or served.page.newest.looking == 0)


def test_who_takes_nothing_is_cut_off_and_holds_nobody_up(served, monkeypatch):
    monkeypatch.setattr(server, 'SLOW', 0.3)
    with served.looking() as mute, served.looking() as reader:
        eventually(lambda: served.page.newest.looking == 2)

        def one_is_left() -> bool:
            served.show({'much': 'x' * 100_000})
            return bool(drained(reader)) and served.page.newest.looking == 1

        eventually(one_is_left, 20)
        served.show({'last': 1})
        eventually(lambda: b'"last"' in drained(reader))
        assert mute.fileno() > 0


def drained(sock: socket.socket) -> bytes:
    """Return what came by now."""
    found = b''
    sock.setblocking(False)
    try:
        while data := sock.recv(1 << 16):
            found += data
    except BlockingIOError:
        pass
    return found


def test_who_connects_and_asks_for_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(server, 'SLOW', 0.2)
    with Served() as served, socket.create_connection(('127.0.0.1', served.port), timeout=10) as mute:
        mute.sendall(b'GET / HTTP/1.1\r\n')
        assert mute.recv(100) == b''


def test_one_connection_too_many_is_closed_and_later_there_is_room(served, monkeypatch):
    monkeypatch.setattr(server, 'SLOW', 1000.0)
    monkeypatch.setattr(server, 'CONNECTIONS', 3)
    served.show()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(served.looking())
        eventually(lambda: served.page.newest.looking == 3)
        with socket.create_connection(('127.0.0.1', served.port), timeout=10) as fourth:
            assert fourth.recv(100) == b''
    eventually(lambda: served.show() or served.page.newest.looking == 0)
    assert served.ask('/api/state')[0].status == 200


@pytest.mark.parametrize('sent', [b'', b'GET /api/st', b'GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'])
def test_strangers_keep_nobody_out_however_many_they_are(monkeypatch, sent):
    """For 5 s, and then for 5 s more, nobody who knew the token got an answer."""
    monkeypatch.setattr(server, 'SLOW', 1000.0)
    monkeypatch.setattr(server, 'CONNECTIONS', 3)
    with Served(TOKEN) as served, ExitStack() as stack:
        served.show()
        looking = stack.enter_context(served.looking(f'Authorization: Bearer {TOKEN}\r\n'))
        eventually(lambda: served.page.newest.looking == 1)
        for number in range(12):
            stranger = stack.enter_context(socket.create_connection(('127.0.0.1', served.port), timeout=10))
            stranger.sendall(sent)
            if sent.endswith(b'\r\n\r\n'):
                assert stranger.recv(1000).startswith(b'HTTP/1.1 401')
            elif number == 1:
                eventually(served.is_full)
        assert served.ask('/api/state', Authorization=f'Bearer {TOKEN}')[0].status == 200
        served.show({'last': 1})
        eventually(lambda: b'"last"' in drained(looking))


def test_an_answer_that_refuses_ends_the_connection():
    with Served(TOKEN) as served:
        for headers in ({}, {'Host': 'evil.example'}):
            response, _ = served.ask('/', **headers)
            assert response.status in (401, 421) and response.headers['Connection'] == 'close'


@pytest.mark.parametrize(
    'sent',
    [
        b'\x00' * 2000,
        b'GET / HTTP/1.1\r\nHost: ' + b'a' * 20_000 + b'\r\n\r\n',
        b'GET / HTTP/9.9\r\n\r\n',
        b'GET / HTTP/1.1\r\n\r\n',
        b'POST /api/interrupt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n',
    ],
)
def test_nonsense_is_refused_and_the_next_one_is_served(served, sent):
    served.show()
    with socket.create_connection(('127.0.0.1', served.port), timeout=10) as sock:
        sock.sendall(sent)
        assert not sock.recv(100).startswith(b'HTTP/1.1 2')
    assert served.ask('/api/state')[0].status == 200


def figures(state: dict, results: Counter, pages: int = 0) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return what Prometheus reads, by name and labels."""
    from prometheus_client.parser import text_string_to_metric_families

    text = metrics.metrics(state, results, pages).decode()
    return {
        (
            s.name,
            tuple(s.labels[name] for name in LABELS if name in s.labels),
        ): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


def test_prometheus_reads_the_same_as_figures():
    samples = figures(STATE, Counter({('EXPSTART', 'done'): 2, ('EXP"\\\n', 'failed'): 1}), 3)
    assert samples['iblbridge_worker_up', ('rig0',)] == 1
    assert samples['iblbridge_recording_seconds', ('rig0',)] == 10.0
    assert samples['iblbridge_service_up', ('rig0', 'cameras')] == 1
    assert samples['iblbridge_service_status', ('rig0', 'ephys')] == 20
    assert samples['iblbridge_service_round_trip_seconds', ('rig0', 'ephys')] == 0.0008
    assert samples['iblbridge_commands_total', ('rig0', 'EXPSTART', 'done')] == 2
    assert samples['iblbridge_pages', ('rig0',)] == 3


def test_who_was_never_heard_is_minus_one_to_prometheus():
    board = Board('rig0')
    board.look(report(health=[Service('cameras', False, None), Service('ephys', False, 2.0)]), at(0))
    samples = figures(board.snapshot(at(0)), Counter())
    heard = [samples['iblbridge_service_heard_seconds', ('rig0', name)] for name in ('cameras', 'ephys')]
    assert heard == [-1, 2]


def test_prometheus_reads_of_listeners_too_and_without_a_worker_none_is_up():
    board = Board('rig0')
    board.look(listening(refused=2), at(0))
    samples = figures(board.snapshot(at(1)), Counter())
    assert [samples[f'iblbridge_listener_{name}', ('rig0', 'cameras')] for name in LISTENERS] == [1, 1.0, 20, 2]
    board.look(listening(client='', status=0, age=None), at(2))
    samples = figures(board.snapshot(at(3)), Counter())
    assert [samples[f'iblbridge_listener_{name}', ('rig0', 'cameras')] for name in LISTENERS] == [0, -1, -1, 0]
    board.look(listening()._replace(worker_alive=False), at(4))
    assert figures(board.snapshot(at(5)), Counter())['iblbridge_listener_up', ('rig0', 'cameras')] == 0


def test_an_address_that_another_has_cannot_be_had():
    with closing(server.bound('127.0.0.1', 0)) as first, pytest.raises(OSError):
        server.bound(*first.getsockname())

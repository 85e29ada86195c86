"""What every tool shows of the listeners of a worker: who serves, what it does, and what is to be done."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading

from hypothesis import given
from hypothesis import strategies as st
from peers import eventually
from running_listeners import Running
from serving_programs import Program
from stock_masters import Stock

from bridge import native
from bridge.cli import lines, main, watch
from bridge.config import ListenerConfig
from bridge.journal import Journal, Reading
from bridge.segment import inspection, listeners
from bridge.segment.client import Client
from bridge.segment.listeners import Listener
from bridge.segment.slate import Slate

REF = '2026-01-01_1_subject'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def experiment(port):
    with Stock(port) as master:
        master.run(master.services.init({'exp_ref': REF}))
        master.run(master.services.start(REF))


def state_of() -> str:
    told = subprocess.run([native.IBLB, 'state', 'rig'], capture_output=True, text=True, timeout=20, check=True)
    return told.stdout


def seen() -> Listener:
    (found,) = inspection.inspect('rig').listeners
    return found


def asked_of_the_worker() -> Listener:
    with Client('rig', 'asker') as client:
        (entry,) = client.call('SERVICES', timeout=10)['services']
    assert entry['ok'] and entry['state'] == 'not_sent'
    return listeners.described(entry['data'])


def test_a_listener_that_nobody_serves_is_named_by_every_tool_and_doctor_has_something_to_do(capsys):
    with Running() as running:
        at = f'udp://127.0.0.1:{running.port}'
        eventually(lambda: seen().uri == at)
        assert seen().client == '' and asked_of_the_worker() == Listener('cameras', at)
        assert main(['doctor']) == 1
        assert f'! Nobody serves cameras at {at}, and masters get an error.' in capsys.readouterr().out
        for words in (['top', 'rig'], ['send', 'rig', 'SERVICES']):
            assert main(words) == 0
            shown = ' '.join(capsys.readouterr().out.split())
            assert 'cameras' in shown and str(running.port) in shown
            assert 'no program serves it: masters get an error' in shown
        assert f'listening as cameras at {at}: no program serves it: masters get an error' in state_of()
        assert watch.listening('rig') == [listeners.sentence(seen())]


def test_of_a_served_listener_every_tool_knows_its_program_its_state_and_its_masters(capsys):
    with Running() as running, Program('rig', name='camera'):
        experiment(running.port)
        eventually(lambda: seen().status == 20)
        for found in (seen(), asked_of_the_worker()):
            assert (found.client, found.status, found.exp_ref, len(found.masters)) == ('camera', 20, REF, 1)
            assert found.pid and found.age is not None and found.age < 60
        main(['doctor', '--json'])
        (segment,) = json.loads(capsys.readouterr().out)['segments']
        assert segment['listeners'][0]['client'] == 'camera' and segment['findings'] == []
        for words in (['top', 'rig'], ['send', 'rig', 'SERVICES'], ['doctor']):
            main(words)
            shown = ' '.join(capsys.readouterr().out.split())
            assert all(word in shown for word in ('served by camera', 'RUNNING', REF))
        assert ': served by camera\n' in state_of()


def test_of_services_and_listeners_side_by_side_only_services_are_counted():
    with Running(services={'ephys': 'udp://127.0.0.1:9'}), Client('rig', 'asker') as client:
        entries = client.call('SERVICES', timeout=10)['services']
        assert [(entry['name'], entry['data']['role']) for entry in entries] == [
            ('ephys', 'service'), ('cameras', 'listener'),
        ]  # fmt: skip
        assert list(entries[1]['data'])[: len(entries[0]['data'])] == list(entries[0]['data'])
        named = client.call('SERVICES', services=['ephys'], timeout=10)['services']
        assert [entry['name'] for entry in named] == ['ephys']
        assert state_of().splitlines()[0].endswith('1 service: 0 down, 1 never heard')


def test_refused_strangers_are_counted_and_a_flood_of_them_is_not_written_each_time(monkeypatch):
    written = []
    write = Slate.write
    monkeypatch.setattr(Slate, 'write', lambda slate, *what: written.append(what) or write(slate, *what))
    with Running(ListenerConfig('cameras', port=0, masters=('192.0.2.1',))) as running:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(200):
                stranger.sendto(b'[2, "ref", null]', ('127.0.0.1', running.port))
        eventually(lambda: seen().refused >= 100)
        eventually(lambda: asked_of_the_worker().refused >= 100)
        assert 0 < len(written) < 20
        assert 'messages of strangers refused' in listeners.sentence(seen())


class Watching:
    """Follows what happens in a thread, as `iblbridge watch` does."""

    class Ended(Exception):
        pass

    def __init__(self):
        self.said, self.entries, self._ended = [], [], threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        eventually(lambda: 'rig: watching' in self.said)
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(10)

    def _run(self):
        with contextlib.suppress(self.Ended):
            for entry in watch.entries('rig', self.said.append, self._look):
                self.entries.append(entry)

    def _look(self, client):
        if self._ended.is_set():
            raise self.Ended


def test_who_watches_and_who_reads_the_journal_sees_what_masters_ask_and_who_serves(tmp_path):
    expected = [
        ('served', ''), ('asked', 'EXPINIT'), ('replied', 'EXPINIT'), ('asked', 'EXPSTART'), ('replied', 'EXPSTART'),
    ]  # fmt: skip
    journal = Journal(tmp_path / 'rig.jsonl')
    with Running(journal=journal) as running, Watching() as watching:
        eventually(lambda: any('no program serves it' in line for line in watching.said))
        with Program('rig', name='camera'):
            experiment(running.port)
            eventually(lambda: len(watching.entries) >= len(expected))
        eventually(lambda: watching.entries[-1]['kind'] == 'served')
    journal.close()
    for found in (watching.entries, list(Reading(journal.path))):
        seen = [(entry['kind'], entry.get('message', '')) for entry in found]
        assert [one for one in seen if one[0] in ('served', 'asked', 'replied')] == [*expected, ('served', '')]
    first, last = watching.entries[0], watching.entries[-1]
    assert first['client'] == 'camera' and first['pid'] and watching.entries[1]['service'] == 'cameras'
    assert 'data' not in watching.entries[2] and lines.line(first, 200, fold=False).endswith(
        f'(process {first["pid"]})'
    )
    assert last['client'] == '' and lines.mark(last) == '~'


def test_a_journal_says_at_its_start_where_the_worker_listens(tmp_path):
    journal = Journal(tmp_path / 'rig.jsonl')
    with Running(journal=journal) as running:
        pass
    journal.close()
    start = next(iter(Reading(journal.path)))
    assert lines.details(start).endswith(f'listening as cameras at udp://127.0.0.1:{running.port}')


@given(JSON, JSON)
def test_whatever_a_worker_has_left_beside_the_segment_is_read_as_far_as_it_makes_sense(left, one):
    for given_ in (
        left,
        {'segment': f'{7:016x}', 'listeners': left},
        {'segment': f'{7:016x}', 'listeners': {'a': one}},
    ):
        kept_ = given_ if isinstance(given_, dict) else {}
        (found,) = listeners.found(['a'], [('a', 'camera', 3)], kept_, 7, 10.0)
        assert found.client == 'camera' and found.pid == 3 and listeners.sentence(found)


def test_what_was_kept_of_another_segment_is_not_believed():
    left = {'segment': f'{8:016x}', 'listeners': {'a': {'host': '127.0.0.1', 'port': 4, 'status': 20}}}
    assert listeners.found(['a'], [], left, 7, 10.0) == [Listener('a')]
    left['segment'] = f'{7:016x}'
    assert listeners.found(['a'], [], left, 7, 10.0) == [Listener('a', 'udp://127.0.0.1:4', status=20)]


def test_what_is_described_is_read_back_and_what_an_older_worker_says_is_no_listener():
    one = Listener('cameras', 'udp://:1', 'camera', 42, 20, REF, ('192.168.0.3:5',), 4.0, 2)
    assert listeners.described(listeners.describe(one)) == one
    assert not listeners.is_described({'name': 'cameras', 'uri': 'udp://:1', 'health': 'up'})

"""The file of a segment cut short, removed, replaced or overwritten under those who map it; and files not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from peers import StockServer, eventually
from processes import CLIENT, SEGMENT, SLOTS_OFFSET, kill, program, read, write
from systems import ROOT, WINDOWS, number_of, remove, replace

from bridge.errors import BridgeError, NoSegment, WorkerBusy
from bridge.segment.client import Client
from bridge.segment.served import Segment
from bridge.worker import Worker

WORKER_SAYS = """
import sys
from bridge.errors import BridgeError
from bridge.worker import Worker
worker = Worker('rig', {})
print('ready', flush=True)
try:
    worker.run()
except BridgeError as error:
    print(error.name, error.text, flush=True)
worker.close()
print('closed', flush=True)
"""


@pytest.mark.posix('Windows lets nobody cut a file short that is mapped')
@pytest.mark.parametrize('size', [0, 100, 4096, SLOTS_OFFSET + 4096])
def test_a_worker_whose_file_is_cut_short_says_so_and_a_new_one_can_be_started(segment_directory, size):
    with program(WORKER_SAYS) as worker, program(CLIENT, 'rig', 'a'):
        os.truncate(segment_directory / 'rig', size)
        said = worker.stdout.readlines()
        assert said[0].startswith('IBLB_E_SEGMENT') and 'cut short' in said[0]
        assert said[1:] == ['closed\n'] and worker.wait(10) == 0
        with Segment('rig') as new, Client('rig', 'b') as client:
            assert 'segment' in new.replaced
            client.send('PING')
            assert len(new.take(1)[1]) == 1


@pytest.mark.posix('Windows lets nobody cut a file short that is mapped')
def test_a_segment_cut_short_between_take_and_answer_is_told_to_whoever_accepts_or_answers(segment_directory):
    with Client_after(Segment('rig')) as (segment, client):
        for _ in range(2):
            client.send('EXPINIT')
        first, second = segment.take(1)[1]
        client.close()  # it would die of it
        os.truncate(segment_directory / 'rig', 0)
        for _ in range(2):
            assert segment.accept(first) == -8011
            with pytest.raises(NoSegment, match='cut short'):
                segment.respond(second, 0, b'\x80')
            with pytest.raises(NoSegment, match='cut short'):
                segment.take(0)


class Client_after:  # noqa: N801
    """A segment with one client, both closed at the end."""

    def __init__(self, segment: Segment) -> None:
        self.segment, self.client = segment, Client('rig')

    def __enter__(self) -> tuple[Segment, Client]:
        return self.segment, self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.segment.close()


FOREIGN_FAULT = """
import ctypes, faulthandler, mmap, os, signal, sys
from bridge.segment.served import Segment
if sys.argv[1] == 'faulthandler':
    faulthandler.enable()
segment = Segment('rig')
print('ready', flush=True)
if sys.argv[1] == 'sent':
    os.kill(os.getpid(), signal.SIGBUS)
with open(sys.argv[2], 'w+b') as file:
    file.truncate(4096)
    memory = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    memory[0]
"""


@pytest.mark.posix('Windows has no SIGBUS')
@pytest.mark.parametrize('how', ['faulthandler', 'sent', 'own'])
def test_a_bus_error_of_somebody_else_still_kills(tmp_path, how):
    with program(FOREIGN_FAULT, how, str(tmp_path / 'file')) as process:
        assert process.wait(20) == -7


def test_a_worker_whose_file_is_removed_stops_and_its_clients_are_told(segment_directory):
    with program(WORKER_SAYS) as worker, Client('rig', timeout=5) as client:
        assert client.call('PING')['code'] == 0
        remove(segment_directory / 'rig')
        said = worker.stdout.readlines()
        assert said[0].startswith('IBLB_E_STALE') and 'removed or replaced' in said[0]
        with pytest.raises(NoSegment) as stale:
            client.call('PING', timeout=30)
        assert stale.value.name == 'IBLB_E_STALE'


@pytest.mark.posix('a link in place of a directory takes a privilege on Windows')
def test_a_worker_whose_directory_cannot_be_looked_at_for_a_moment_goes_on(segment_directory):
    """It said that its segment was removed, marked it so, and ended; a client that could not look said the same."""
    away = segment_directory.with_name('away')
    with Segment('rig') as segment, Client('rig') as client:
        segment_directory.rename(away)
        segment_directory.symlink_to(segment_directory)  # in a circle
        try:
            until = time.monotonic() + 0.6  # it looks four times a second
            while time.monotonic() < until:
                assert segment.take(0.1)[1] == []
            segment.close()
            assert not client.worker_state().alive
        finally:
            segment_directory.unlink()
            away.rename(segment_directory)


def test_a_worker_whose_file_is_replaced_leaves_the_new_one_alone(segment_directory):
    with program(WORKER_SAYS) as worker, Client('rig', timeout=5) as client:
        shutil.copy(segment_directory / 'rig', segment_directory / 'copy')
        replace(segment_directory / 'copy', segment_directory / 'rig')
        before = number_of(segment_directory / 'rig')
        assert worker.stdout.readline().startswith('IBLB_E_STALE')
        assert worker.stdout.readline() == 'closed\n'
        assert read(segment_directory / 'rig', 12, 1) == b'\x01', 'READY, not REPLACED'
        with Segment('rig'):
            assert number_of(segment_directory / 'rig') == before
            with pytest.raises(NoSegment) as stale:
                client.call('PING', timeout=30)
            assert stale.value.name == 'IBLB_E_STALE'


def test_what_was_begun_before_the_file_was_removed_is_answered(serve, segment_directory):
    release = threading.Event()
    with StockServer(answers={1: lambda data: release.wait(10) and data}) as server:
        worker = Worker('rig', {'cameras': server.uri})
        failures: list[BaseException] = []

        def run() -> None:
            try:
                worker.run()
            except BridgeError as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        with Client('rig') as client:
            request = client.send('EXPINIT', 'x')
            eventually(lambda: server.saw)
            remove(segment_directory / 'rig')
            release.set()
            assert client.wait(request, 10)['code'] == 0
            thread.join(20)
            assert not thread.is_alive() and failures[0].name == 'IBLB_E_STALE'
            worker.close()
            with pytest.raises(NoSegment):
                client.send('EXPINIT')


def test_a_client_of_a_removed_segment_is_told_once_no_worker_lives(segment_directory):
    with program(SEGMENT, 'rig') as worker, Client('rig', timeout=5) as client:
        request = client.send('EXPINIT', ttl=None)
        kill(worker)
        remove(segment_directory / 'rig')
        for call in (lambda: client.wait(request, 30), client.worker_state):
            with pytest.raises(NoSegment) as stale:
                call()
            assert stale.value.name == 'IBLB_E_STALE'


@pytest.mark.parametrize(
    ('offset', 'content', 'name'),
    [
        (152, b'\0\0\0\0', 'IBLB_E_SEGMENT'),  # the epoch, put back
        (152, b'\xff\xff\0\0', 'IBLB_E_SUPERSEDED'),
        (12, b'\x07', 'IBLB_E_SEGMENT'),
        (12, b'\x02', 'IBLB_E_SUPERSEDED'),
    ],
)
def test_a_worker_whose_header_is_overwritten_stops_and_says_why(segment_directory, offset, content, name):
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPINIT')
        (command,) = segment.take(1)[1]
        write(segment_directory / 'rig', offset, content)
        assert segment.accept(command) in (-8011, -8022)
        for call in (lambda: segment.take(0), lambda: segment.respond(command, 0, b'\x80')):
            with pytest.raises(BridgeError) as stopped:
                call()
            assert stopped.value.name == name


@pytest.mark.parametrize('version', [b'\0\0\0\0', b'\1\0\0\0'])
def test_a_living_worker_of_another_version_is_told_to_clients_and_not_pushed_aside(segment_directory, version):
    with Segment('rig'):
        write(segment_directory / 'rig', 8, version)
        with pytest.raises(NoSegment, match=rf'layout {version[0]} .*layout 2\.') as refused:
            Client('rig', timeout=0)
        assert refused.value.name == 'IBLB_E_VERSION'
        with pytest.raises(WorkerBusy):
            Segment('rig')


AS_NOBODY = """
import os, sys
from bridge.segment.client import Client
from bridge.errors import BridgeError
from bridge.segment.served import Segment
os.setgid(65534), os.setuid(65534)
for attempt in (lambda: Client('rig', timeout=0), lambda: Segment('rig')):
    try:
        attempt()
    except BridgeError as error:
        print(error.name, error.text)
"""


@pytest.mark.posix('has to become another user')
@pytest.mark.skipif(not ROOT, reason='needs a second user')
def test_another_user_can_neither_attach_nor_serve_nor_replace(segment_directory, monkeypatch):
    place = Path('/dev/shm/iblbridge-test-of-owners')
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        for mode in (0o700, 0o755):
            place.chmod(mode)
            monkeypatch.setenv('IBLBRIDGE_DIR', str(place))
            with Segment('rig') as segment:
                done = subprocess.run([sys.executable, '-c', AS_NOBODY], capture_output=True, text=True, check=True)
                client, worker = done.stdout.splitlines()
                assert client.startswith('IBLB_E_PERMISSION') and worker.startswith('IBLB_E_PERMISSION'), done.stdout
                assert str(place) in client
                segment.take(0)
    finally:
        shutil.rmtree(place)


@pytest.mark.posix('has to become another user')
@pytest.mark.skipif(not ROOT, reason='needs a second user')
def test_the_directory_of_another_user_is_refused_where_ours_would_be(monkeypatch):
    monkeypatch.delenv('IBLBRIDGE_DIR')
    code = AS_NOBODY.replace('os.setuid(65534)', 'os.setuid(int(sys.argv[1]))')
    place = Path('/dev/shm/iblbridge-54321')
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)  # by root, before the user 54321 comes
    try:
        done = subprocess.run([sys.executable, '-c', code, '54321'], capture_output=True, text=True, check=True)
        assert done.stdout.count('IBLB_E_PERMISSION') == 2 and 'must belong to user 54321' in done.stdout
        shutil.rmtree(place)
        (place.parent / 'elsewhere-54321').mkdir(mode=0o777)
        place.symlink_to(place.parent / 'elsewhere-54321')
        done = subprocess.run([sys.executable, '-c', code, '54321'], capture_output=True, text=True, check=True)
        assert done.stdout.count('a link is not followed') == 2
    finally:
        if place.is_symlink():
            place.unlink()
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(place.parent / 'elsewhere-54321', ignore_errors=True)


@pytest.mark.posix('to make a link takes a right that few have on Windows')
def test_a_link_in_place_of_a_segment_is_not_followed(segment_directory, tmp_path):
    with Segment('real'):
        (segment_directory / 'rig').symlink_to(segment_directory / 'real')
        for attempt in (lambda: Client('rig', timeout=0), lambda: Segment('rig')):
            with pytest.raises(NoSegment) as refused:
                attempt()
            assert refused.value.name == 'IBLB_E_PERMISSION'


def test_half_made_segments_are_never_seen_by_clients(segment_directory):
    (segment_directory / '.rig.0123456789abcdef').write_bytes(bytes(1 << 16))
    with pytest.raises(NoSegment) as refused:
        Client('rig', timeout=0)
    assert refused.value.name == 'IBLB_E_NO_SEGMENT'
    (segment_directory / 'rig').write_bytes(bytes(1 << 16))  # as a careless maker would leave it
    with pytest.raises(NoSegment, match='not a segment'):
        Client('rig', timeout=0)
    with Segment('rig') as segment:
        assert 'not a segment' in segment.replaced


def test_nothing_is_sent_into_a_segment_that_was_removed_with_its_worker(segment_directory):
    """send and notify said "the command waits for a worker", of which there will never be one; subscribe was fine."""
    with program(SEGMENT, 'rig') as worker, Client('rig') as client:
        kill(worker)
        remove(segment_directory / 'rig')
        requests = [
            client.worker_state,  # first: it looks for the worker each time, the others every 100 ms
            lambda: client.notify('EXPSTATUS'),
            lambda: client.send('EXPSTATUS'),
            lambda: client.subscribe('EXPINTERRUPT'),
            lambda: client.call('EXPSTATUS'),
        ]

        def is_told(request) -> bool:
            with pytest.raises(NoSegment, match='IBLB_E_STALE|replaced|removed') as told:
                request()
            return told.value.name == 'IBLB_E_STALE'

        for request in requests:
            assert is_told(request)
        with Segment('rig'):  # a new one: the handle belongs to the old one still
            for request in requests:
                assert is_told(request)


@pytest.mark.skipif(not WINDOWS, reason='elsewhere a file that is mapped can be deleted')
def test_what_a_client_still_had_of_a_removed_segment_is_gone_with_the_next_one(segment_directory):
    left = segment_directory / '.removed-0123456789abcdef'
    left.write_bytes(b'it could not be deleted when its turn came')
    with Segment('rig'):
        assert not left.exists()


@pytest.mark.skipif(not WINDOWS, reason='elsewhere a file that is open can be removed')
@pytest.mark.parametrize('seconds', [0.2, 5.0])
def test_a_segment_of_no_use_that_a_backup_reads_is_waited_for_and_then_named(segment_directory, seconds):
    with Segment('rig') as served:
        path = served.path
    write(path, 8, b'\x63')  # its layout is another one
    with open(path, 'rb') as file:  # does not share that it is removed
        timer = threading.Timer(seconds, file.close)
        timer.start()
        if seconds < 0.5:
            Segment('rig').close(remove=True)
        else:
            with pytest.raises(BridgeError, match='another program keeps it open'):
                Segment('rig')
        timer.cancel()
    Segment('rig').close(remove=True)
    assert not list(segment_directory.iterdir())

"""fork() of a client and of a worker: the child has nothing, the parent all, and no lock outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from peers import eventually
from processes import SEGMENT, program

from bridge.errors import NoWorker
from bridge.segment import inspection as doctor
from bridge.segment.client import Client
from bridge.segment.served import Segment

CLIENT_FORKS = """
import json, os, sys, time
from bridge.errors import BridgeError
from bridge.numbers import CODE_NAMES
from bridge.segment import library
from bridge.segment.client import Client
client = Client('rig', 'parent', 5)
open_request = client.send('PING')

def name(call):
    try:
        return repr(call())
    except BridgeError as error:
        return error.name

reader, writer = os.pipe()
if os.fork() == 0:
    said = [
        name(lambda: client.send('PING')),
        name(lambda: client.wait(open_request, 1)),
        name(lambda: client.cancel(open_request)),
        name(client.worker_state),
        CODE_NAMES[library.lib.iblb_close(client._handle)],
    ]
    said.append('parent process' in library.last_error(client._handle))
    with Client('rig', 'child', 5) as own:
        said.append(own.call('PING')['code'])
    os.write(writer, json.dumps(said).encode())
    os._exit(0)
os.wait()
print('ready', os.read(reader, 1000).decode(), flush=True)
print(json.dumps([client.wait(open_request, 5)['code'], client.call('PING')['code'], client.worker_state().alive]))
"""


def test_a_forked_clients_child_has_no_handle_and_its_parent_goes_on(serve):
    serve('rig', {})
    done = subprocess.run([sys.executable, '-c', CLIENT_FORKS], capture_output=True, text=True, check=False, timeout=60)
    ready, parent = done.stdout.splitlines()
    assert ready == 'ready ["IBLB_E_FORKED"' + ', "IBLB_E_FORKED"' * 4 + ', true, 0]', done.stdout + done.stderr
    assert parent == '[0, 0, true]'


LEAVES_A_CHILD = """
import os, sys, time
from bridge.segment.client import Client
from bridge.segment.served import Segment
owner = {'client': lambda: Client('rig', 'parent', 5), 'worker': lambda: Segment('rig')}[sys.argv[1]]()
child = os.fork()
if child == 0:
    time.sleep(1000)
print('ready', child, flush=True)
time.sleep(1000)
"""


def child_of(process: subprocess.Popen[str]) -> int:
    with open(f'/proc/{process.pid}/task/{process.pid}/children') as file:
        (child,) = file.read().split()
    return int(child)


def test_the_slot_of_a_killed_client_is_free_although_its_child_lives():
    with Segment('rig', slots=2) as segment, program(LEAVES_A_CHILD, 'client') as parent:
        child = child_of(parent)
        try:
            segment.take(0)
            parent.kill()
            parent.wait(10)

            def its_slot_is_free() -> bool:
                segment.take(0.01)
                list(segment.lost_clients())
                return read_state(segment) == 0

            assert eventually(its_slot_is_free)
            with Client('rig', 'next', timeout=0):
                os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


def read_state(segment: Segment) -> int:
    from processes import SLOTS_OFFSET, read

    return read(segment.path, SLOTS_OFFSET, 1)[0]


def test_the_segment_of_a_killed_worker_can_be_served_although_its_child_lives():
    with program(LEAVES_A_CHILD, 'worker') as parent, Client('rig', timeout=5) as client:
        child = child_of(parent)
        try:
            parent.kill()
            parent.wait(10)
            eventually(lambda: not client.worker_state().alive)  # the child lets go as soon as it runs
            with pytest.raises(NoWorker):
                client.call('PING', timeout=30)
            with Segment('rig') as successor:
                client.send('PING')
                assert len(successor.take(1)[1]) == 1
                os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


WORKER_FORKS = """
import json, os, sys
from bridge.segment.client import Client
from bridge.errors import BridgeError
from bridge.segment.served import Segment
segment = Segment('rig')
client = Client('rig', 'x')
client.send('PING')
(command,) = segment.take(1)[1]

def name(call):
    try:
        return repr(call())
    except BridgeError as error:
        return error.name

if os.fork() == 0:
    said = [name(call) for call in (
        lambda: segment.take(0),
        lambda: segment.accept(command),
        lambda: segment.respond(command, 0, b''),
        lambda: segment.publish_services(['a']),
        lambda: segment.publish_services_up(1),
        segment.ring,
        lambda: Segment('rig'),
        lambda: segment.close(remove=True),
    )]
    print('ready', *said, flush=True)
    os._exit(0)
os.wait()
print(segment.accept(command), segment.respond(command, 0, bytes([128])), segment.path.exists(), flush=True)
"""


def test_a_forked_workers_child_can_do_nothing_and_the_parent_goes_on():
    done = subprocess.run([sys.executable, '-c', WORKER_FORKS], capture_output=True, text=True, check=False, timeout=60)
    child, parent = done.stdout.splitlines()
    forked = 'IBLB_E_FORKED'
    assert child.split() == ['ready', forked, '-8004', forked, forked, forked, 'None', 'IBLB_E_WORKER_BUSY', 'None']
    assert parent == '0 True True', done.stderr


FORKS_WHILE_OTHERS_OPEN = """
import os, sys, threading, time
from bridge.segment.client import Client
from bridge.errors import BridgeError
stop, kept = False, []

def open_and_close(number):
    while not stop:
        Client('rig', f'{os.getpid()}-{number}', 5).close()
    kept.append([Client('rig', f'{os.getpid()}-{number}-{i}', 5) for i in range(18)])

threads = [threading.Thread(target=open_and_close, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
children = []
for number in range(150):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    children.append(child)
    stop = number >= 75
for thread in threads:
    thread.join()
print('ready', *children, flush=True)
time.sleep(1000)
"""


def test_a_fork_in_the_middle_of_an_open_or_close_leaves_no_lock_in_the_child():
    """150 children live, forked while three threads opened and closed; not one of them holds a slot."""
    with program(SEGMENT, 'rig', '64') as worker, program(FORKS_WHILE_OTHERS_OPEN) as parent:
        with open(f'/proc/{parent.pid}/task/{parent.pid}/children') as file:
            children = [int(child) for child in file.read().split()]
        try:
            assert len(children) == 150
            assert doctor.inspect('rig').locks == 1 + 3 * 18
            for process in (parent, worker):
                process.kill()
                process.wait(10)
            assert doctor.inspect('rig').locks == 0
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)

"""Bonsai workflows that masters command, with the operators under mono; the cases are in bonsai/Serving.cs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from peers import eventually, free_port
from processes import kill, program
from stock_masters import Stock
from workflows import Operators

from bridge import Client
from bridge.auxiliaries import Auxiliaries
from bridge.config import ListenerConfig

REF = '2026-01-01_1_subject'
INIT, START, INTERRUPT, STATUS = 1, 2, 16, 32
LISTENING = """
import sys
from bridge.config import ListenerConfig
from bridge.worker import Worker
worker = Worker('rig0', {}, listeners=[ListenerConfig('cameras', port=int(sys.argv[1]))])
print('ready', flush=True)
worker.run()
"""


class Masters:
    """A worker that listens, and masters of the workflow that serves."""

    def __init__(self, serve: Callable[..., Any], stack: ExitStack) -> None:
        self._serve, self._stack, self.port = serve, stack, 0

    def listen(self, timeout: float = 8.0) -> None:
        """Start a worker."""
        worker = self._serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0, timeout=timeout),))
        self.port = worker.ports['cameras']

    def ours(self) -> Auxiliaries:
        """Return a master as our worker is one, once somebody serves."""
        master = Auxiliaries({'cameras': f'udp://127.0.0.1:{self.port}'})
        self._stack.callback(master.close)
        eventually(lambda: ask(master, 'EXPINFO', 0).ok, 20)
        return master

    def stock(self) -> Stock:
        """Return a master as iblrig is one."""
        return self._stack.enter_context(Stock(self.port))


def ask(master: Auxiliaries, message: str, *arguments: Any) -> Any:
    """Ask the workflow, and return what became of it."""
    return master.submit(message, *arguments).result(20)['cameras']


@pytest.fixture
def masters(serve: Callable[..., Any]) -> Iterator[Masters]:
    with ExitStack() as stack:
        yield Masters(serve, stack)


def obeys(operators: Callable[..., Operators], *words: str) -> Operators:
    """Start a case, and return when its nodes are subscribed."""
    workflow = operators(*words)
    workflow.until('serving')
    return workflow


def test_nodes_serve_by_message_and_what_they_answer_is_what_the_master_gets(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve')
    master = masters.ours()
    eventually(lambda: 'The lens is gone.' in ask(master, 'EXPINIT', {'exp_ref': REF}).error, 20)
    assert ask(master, 'EXPSTART', REF).reply == [REF, {'file': 'a.avi', 'status': 20}]
    assert ask(master, 'EXPEND').reply == [{'value': 7, 'status': 0}]
    assert ask(master, 'EXPCLEANUP').ok  # nobody serves it: the worker answers
    workflow.go()
    workflow.end()
    assert workflow.of('start') == [f'EXPSTART{REF}'] and workflow.of('end') == ['True 7']
    assert set(workflow.of('init')) == {'EXPINIT'}


@pytest.mark.parametrize(
    ('data', 'value'),
    [
        ('', {}),
        ('a.avi', {'value': 'a.avi'}),
        ('-5.5e3', {'value': -5500.0}),
        ('true', {'value': True}),
        ('trueish 5', {'value': 'trueish 5'}),
        ('2026-01-01', {'value': '2026-01-01'}),
        ('"5"', {'value': '5'}),
        (' {"frames": 5}', {'frames': 5}),
        ('[1, 2]', {'value': [1, 2]}),
    ],
)
def test_data_are_json_or_one_text(operators, masters, data, value):
    masters.listen()
    obeys(operators, 'serve_data', data)
    assert ask(masters.ours(), 'EXPINIT', {'a': 1}).reply == [10, {'exp_ref': None, **value}]


def test_an_error_between_serve_and_answer_is_told_to_the_master_and_the_workflow_is_lost(operators, masters):
    masters.listen()
    with Client('rig0', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        workflow = operators('serve_error')
        master = masters.stock()
        masters.ours()
        master.begin(master.services.start(REF))
        eventually(lambda: master.told)
        assert workflow.end() == ['serve: InvalidOperationException the lens is gone']
        event = watch.next_event(20.0)
        assert event and event['client'] == 'bonsai'
        told = [about for event, about in master.told if event == 0]
        assert len(told) == 1 and 'InvalidOperationException: the lens is gone' in told[0][0]


def test_an_error_that_the_workflow_catches_is_told_and_it_goes_on(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_error', 'retry')
    master = masters.ours()
    for _ in range(3):
        failed = ask(master, 'EXPSTART', REF)
        assert not failed.ok and 'InvalidOperationException: the lens is gone' in failed.error
        assert ask(master, 'EXPEND').ok
    workflow.go()
    assert workflow.end() == ['serving', *['serve: EXPEND'] * 3]


def test_a_service_that_cannot_be_served_is_an_error_that_says_why(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_nothing')
    assert 'does not listen as "ephys"; there are: cameras' in workflow.of('other')[0]
    assert 'The bridge serves "" already' in workflow.of('two')[0]
    second = operators('serve')
    eventually(lambda: second.of('start'), 20)
    assert 'served by the client "bonsai"' in second.of('start')[0]


def test_an_answer_that_is_no_json_ends_the_workflow_and_is_told(operators, masters):
    masters.listen()
    workflow = operators('serve_no_json')
    failed = ask(masters.ours(), 'EXPSTART', REF)
    assert not failed.ok and 'BridgeException: The data are not valid JSON' in failed.error
    assert 'IBLB_E_JSON' in workflow.end()[0]


def test_a_command_whose_node_has_gone_fails_with_a_sentence(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_once')
    master = masters.ours()
    assert ask(master, 'EXPSTART', REF).ok and ask(master, 'EXPEND').ok
    failed = ask(master, 'EXPSTART', REF)
    assert not failed.ok and 'No node of the workflow waits for EXPSTART now.' in failed.error
    assert ask(master, 'EXPEND').ok
    workflow.go()
    assert workflow.end() == ['serving', 'start: EXPSTART', 'start: completed', 'end: EXPEND', 'end: EXPEND']


def test_an_interrupt_reaches_a_workflow_of_which_a_node_is_busy(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_interrupt')
    master, other = masters.ours(), masters.ours()
    eventually(lambda: ask(other, 'EXPINTERRUPT').ok and workflow.of('interrupt'), 20)
    assert ask(master, 'EXPEND').ok
    busy = master.submit('EXPINIT', {'exp_ref': REF})
    eventually(lambda: workflow.lines.count('busy') == 2, 20)
    assert ask(other, 'EXPINTERRUPT').ok
    busy.result(20)
    eventually(lambda: workflow.of('init') == ['EXPEND', 'EXPINIT'], 20)
    assert workflow.of('interrupted') == ['True', 'True']


def test_what_its_master_has_given_up_while_a_node_was_busy_never_begins(operators, masters):
    masters.listen(timeout=0.3)
    workflow = obeys(operators, 'serve_late')
    master = masters.ours()
    assert not ask(master, 'EXPINIT', {'exp_ref': REF}).ok
    workflow.until('busy')
    assert not ask(master, 'EXPSTART', REF).ok
    workflow.go()
    eventually(lambda: ask(master, 'EXPEND').ok, 20)
    eventually(lambda: ask(master, 'EXPCLEANUP').ok, 20)
    workflow.end()
    assert workflow.of('late')[0] == 'EXPINIT True'
    assert {line.split()[0] for line in workflow.of('late')[1:]} <= {'EXPEND', 'EXPCLEANUP'}


def test_a_workflow_tells_its_masters_what_they_did_not_ask(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'tell')
    masters.ours()
    master = masters.stock()
    master.run(master.services.init({'exp_ref': REF}))
    workflow.go()
    workflow.until('told')
    eventually(lambda: (INTERRUPT, [{'why': 'it was unplugged', 'status': 30}]) in master.told)
    eventually(lambda: (STATUS, [20]) in master.told)
    workflow.go()
    workflow.end()
    assert workflow.of('died') == ['5', 'completed'] and workflow.of('status') == ['20', 'completed']
    assert 'IBLB_E_SERVICE' in workflow.of('nobody')[0]


def test_a_workflow_that_stops_with_a_command_in_hand_is_told_at_once(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_stop')
    master = masters.ours()
    asked = master.submit('EXPSTART', REF)
    eventually(lambda: workflow.of('taken') == ['EXPSTART'], 20)
    workflow.go()
    workflow.until('stopped')
    told = asked.result(20)['cameras']
    assert not told.ok and 'ended before it answered' in told.error


def test_a_workflow_that_is_killed_is_told_once(operators, masters):
    masters.listen()
    workflow = obeys(operators, 'serve_stop')
    masters.ours()
    master = masters.stock()
    master.begin(master.services.start(REF))
    eventually(lambda: workflow.of('taken') == ['EXPSTART'], 20)
    kill(workflow.process)
    eventually(lambda: master.told)
    second = obeys(operators, 'serve')
    assert ask(masters.ours(), 'EXPSTART', REF).ok
    ((event, (sentence, about)),) = [told for told in master.told if told[0] == 0]
    assert (event, about) == (0, START) and 'ended' in sentence
    second.go()
    second.end()


def test_a_workflow_that_serves_waits_for_the_next_worker(operators, masters):
    masters.port = free_port()
    with program(LISTENING, str(masters.port)) as worker:
        workflow = obeys(operators, 'serve')
        assert ask(masters.ours(), 'EXPSTART', REF).ok
        kill(worker)
    with program(LISTENING, str(masters.port)):
        master = masters.ours()
        assert ask(master, 'EXPEND').reply == [{'value': 7, 'status': 0}]
        workflow.go()
        workflow.end()


def test_many_restarts_leave_no_thread_and_the_last_one_serves(operators, masters):
    masters.listen()
    workflow = operators('serve_restart', '50')
    workflow.until('restarted')
    assert ask(masters.ours(), 'EXPINIT', {'exp_ref': REF}).ok
    eventually(lambda: len(os.listdir(f'/proc/{workflow.process.pid}/task')) < 40, 20)
    workflow.go()
    assert set(workflow.end()) <= {'restarted', 'serve: EXPINIT'}


def test_the_workflow_of_a_camera_records_from_expstart_to_expend_again_and_again(operators, masters, kit_of):
    masters.listen()
    workflow = operators('workflow', str(kit_of('bonsai') / 'ServeCamera.bonsai'), 'run', 'then')
    masters.ours()
    master = masters.stock()
    call, services = master.run, master.services
    for round_ in range(2):
        assert call(services.init({'exp_ref': REF, 'round': round_}))['cameras'][0] == 10
        assert call(services.start(REF, {'round': round_}))['cameras'] == [REF, {'status': 20}]
        workflow.until('frames')
        assert call(services.stop({'round': round_}))['cameras'] == [{'status': 30}]
        assert call(services.cleanup({'round': round_}))['cameras'][0]['status'] == 0
    assert master.told == [] and master.is_open

"""The Bonsai operators of the kit, compiled as Bonsai compiles them and run by mono against a real rig.

Bonsai itself is not there: ``bonsai/BonsaiCore.cs`` stands for the little of Bonsai.Core that the operators need,
``bonsai/Workflow.cs`` runs the two workflows, ``bonsai/Operators.cs`` holds what else a workflow does, one case per
test. The compiled operators lie in a folder of their own, as Bonsai's temporary one, and run in the kit's folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from guides import run
from peers import eventually
from workflows import Operators

from bridge import Client, kit
from bridge.cli.demo.children import Child, Rig
from bridge.config import ClientLost

SOURCES = kit.examples() / 'bonsai'
SERVICES = ['cameras', 'ephys']
WORKFLOWS = [
    'StartStopExperiment.bonsai',
    'ReactToInterrupt.bonsai',
    'AskServices.bonsai',
    'ServeCamera.bonsai',
    'Extensions/Experiment.bonsai',
]


def heard(rig: Rig, service: str) -> list[str]:
    """Return the messages that a service carried out, in order."""
    lines = [line for line in rig.children[service].output if ' -> ' in line and 'refused' not in line]
    return [line.split(': ', 1)[1].split()[0] for line in lines]


def clients() -> list[str]:
    """Return who holds a slot of the segment."""
    said = json.loads(run(['iblbridge', 'doctor', '--json'], Path.cwd()).stdout)
    (segment,) = said['segments']
    return [slot['client'] for slot in segment['slots']]


def test_each_node_has_its_category_and_each_property_says_what_it_is(operators):
    lines = operators('describe').end()
    nodes = {line.split(': ')[0]: line.split(': ')[1] for line in lines if '.' not in line.split(': ')[0]}
    assert nodes == {
        'Answer': 'Sink',
        'BridgeEvents': 'Source',
        'BridgeStatus': 'Source',
        'CreateBridge': 'Source',
        'Fail': 'Sink',
        'Request': 'Combinator',
        'SendCommand': 'Sink',
        'Serve': 'Source',
        'ServiceStatus': 'Combinator',
        'Tell': 'Sink',
    }
    assert all(len(line.split(': ', 4)[-1]) > 15 for line in lines)
    categories = {line.split(': ')[1] for line in lines if '.' in line.split(': ')[0]}
    assert categories == {'Connection', 'Command', 'Flow', 'Events', 'Timing'}  # and not Misc


def test_a_node_is_called_after_what_it_does(operators):
    assert operators('names').end() == [
        'Request: EXPSTART',
        'SendCommand: EXPEND',
        'BridgeEvents: EXPINTERRUPT, SERVICE_DOWN',
        'BridgeStatus: BridgeStatus',
        'CreateBridge: left',
        'Serve: Serve',
        'Serve: EXPEND, EXPINTERRUPT',
        'Answer: Answer',
        'Fail: Fail',
        'Tell: EXPINTERRUPT',
        'clr-namespace:Bonsai.IblBridge: ibl',
    ]


def test_the_icon_lies_where_bonsai_looks_for_that_of_the_namespace(kit_of):
    # Of scripts it is a file beside the workflow, of a package a resource: the editor's ElementIcon says both names.
    icon = kit_of('bonsai') / 'Bonsai.IblBridge.svg'
    assert ET.parse(icon).getroot().tag == '{http://www.w3.org/2000/svg}svg'
    project = ET.parse(kit_of('bonsai') / 'package' / 'Bonsai.IblBridge.csproj').getroot()
    resources = {item.attrib['LogicalName']: item.attrib['Include'] for item in project.iter('EmbeddedResource')}
    assert (kit_of('bonsai') / 'package' / resources['Bonsai.IblBridge.Bonsai.IblBridge.svg']).samefile(icon)


def test_the_guide_lists_each_property_once_per_node(operators):
    lines = operators('describe').end()
    there = {tuple(line.split(': ')[0].split('.')) for line in lines if '.' in line.split(': ')[0]}
    guide = (SOURCES / 'README.md').read_text(encoding='utf-8')
    listed = []
    for name, nodes in re.findall(r'^\| `(\w+)` \| (.*?) \|', guide, re.MULTILINE):
        found = re.findall(r'`(\w+)`', nodes)
        listed += [(node, name) for node in found if name not in {node for node, _ in there}]
    assert sorted(listed) == sorted(there)


def test_what_two_operators_share_is_written_once():
    said = [
        name
        for node in ('CommandNode', 'Request', 'SendCommand')
        for name in re.findall(r'public \w+ (\w+)\s*{', (SOURCES / f'Extensions/{node}.cs').read_text(encoding='utf-8'))
    ]
    assert len(said) == len(set(said)) and {'Message', 'Services', 'Arguments', 'TimeoutMs'} <= set(said)


def test_what_is_saved_with_a_workflow_is_what_is_read(operators):
    lines = operators('save').end()
    assert len(lines) == 19 and all(line.endswith(': same') for line in lines)


def test_properties_offer_what_fits_and_refuse_what_does_not(operators):
    offers = dict(line.split(': ') for line in operators('offers').end() if '"' not in line)
    assert offers['Request.BridgeName'] == offers['BridgeEvents.BridgeName'] == 'left right'
    assert 'EXPSTART' in offers['Request.Message'] and 'SERVICE_UP' not in offers['Request.Message']
    assert 'SERVICE_UP' in offers['BridgeEvents.Events'] and 'PING' not in offers['BridgeEvents.Events']
    assert offers['Serve.Messages'].split()[::7] == ['EXPINIT', 'ALYX'] and len(offers['Serve.Messages'].split()) == 8
    assert offers['Tell.Message'] == 'EXPINTERRUPT EXPSTATUS EXPINFO'
    assert not [line for line in operators('refuse').end() if 'Exception' not in line]


@pytest.mark.parametrize('name', WORKFLOWS)
def test_a_workflow_names_only_what_is_there_and_belongs_to_bonsai_2_6_3(operators, kit_of, name):
    file = kit_of('bonsai') / name
    root = ET.parse(file).getroot()
    assert root.attrib == {'Version': '2.6.3'}
    space = '{https://bonsai-rx.org/2018/workflow}'
    for workflow in root.iter(f'{space}Workflow'):
        nodes = workflow.find(f'{space}Nodes')
        for edge in workflow.findall(f'{space}Edges/{space}Edge'):
            assert {int(edge.attrib['From']), int(edge.attrib['To'])} <= set(range(len(nodes)))
    lines = operators('workflow', str(file)).end()
    values = dict(line.split(': ', 1) for line in lines)
    assert values['Bonsai.IblBridge.CreateBridge.Segment'] == 'rig0'
    # An externalized property is one of a node that it leads to.
    for prop in root.iter(f'{space}Property'):
        assert any(key.endswith(f'.{prop.attrib["Name"]}') for key in values)


def test_the_experiment_starts_and_ends_with_the_camera_workflow(operators, rig, kit_of):
    services = rig(cameras=[], ephys=[])
    lines = operators('workflow', str(kit_of('bonsai') / WORKFLOWS[0]), 'run').end()
    assert lines[-2:] == ['workflow: completed', '150 frames']
    wanted = ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']
    for service in SERVICES:
        eventually(lambda name=service: heard(services, name) == wanted)


@pytest.mark.parametrize('is_refused', [False, True])
def test_the_node_experiment_is_an_experiment_around_its_input(operators, rig, kit_of, is_refused):
    services = rig(cameras=[], ephys=['--refuse', 'EXPSTART'] if is_refused else [])
    lines = operators('workflow', str(kit_of('bonsai') / 'RunExperiment.bonsai'), 'run').end()
    assert lines[-1] == ('0 frames' if is_refused else '150 frames')
    assert lines[-2].startswith('workflow: BridgeException ' if is_refused else 'workflow: completed')
    eventually(lambda: heard(services, 'cameras') == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP'])
    started = next(line for line in services.children['cameras'].output if 'EXPSTART' in line)
    assert '2026-01-01_2_subject' in started  # what the node says, not what the workflow in it does


def test_the_experiment_of_the_package_is_that_of_the_scripts(kit_of):
    scripts = (kit_of('bonsai') / 'Extensions' / 'Experiment.bonsai').read_text(encoding='utf-8')
    package = (kit_of('bonsai') / 'package' / 'Experiment.bonsai').read_text(encoding='utf-8')
    assert package == scripts.replace('assembly=Extensions', 'assembly=Bonsai.IblBridge') != scripts
    project = ET.parse(kit_of('bonsai') / 'package' / 'Bonsai.IblBridge.csproj').getroot()
    resources = {item.attrib['LogicalName']: item.attrib['Include'] for item in project.iter('EmbeddedResource')}
    assert resources['Bonsai.IblBridge.Experiment.bonsai'] == 'Experiment.bonsai'


def test_there_is_a_picture_of_each_workflow_and_the_guide_shows_it():
    done = run([sys.executable, SOURCES / 'pictures' / 'draw.py', '--check'], Path.cwd())
    assert (done.returncode, done.stdout) == (0, ''), 'python examples/bonsai/pictures/draw.py writes them anew'
    guide = (SOURCES / 'README.md').read_text(encoding='utf-8')
    shown = re.findall(r'!\[[^]]+\]\((pictures/\w+\.svg)\)', guide)
    assert sorted(shown) == sorted(f'pictures/{file.name}' for file in (SOURCES / 'pictures').glob('*.svg'))
    assert {Path(name).stem for name in shown} == {file.stem for file in SOURCES.rglob('*.bonsai')}


def test_a_picture_that_is_out_of_date_is_named(tmp_path):
    for file in [*SOURCES.glob('*.bonsai'), *SOURCES.glob('pictures/*')]:
        if file.is_file():
            (tmp_path / file.relative_to(SOURCES)).parent.mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / file.relative_to(SOURCES))
    other = tmp_path / 'AskServices.bonsai'
    other.write_text(other.read_text(encoding='utf-8').replace('rig<', 'left<'), encoding='utf-8')
    draw = [sys.executable, tmp_path / 'pictures' / 'draw.py']
    done = run([*draw, '--check'], tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, ['out', 'of', 'date:', 'AskServices.svg'])
    assert run(draw, tmp_path).returncode == run([*draw, '--check'], tmp_path).returncode == 0
    assert '>left<' in (tmp_path / 'pictures' / 'AskServices.svg').read_text(encoding='utf-8')


def test_services_are_asked_what_they_do_and_which_experiment_they_run(operators, rig):
    rig(cameras=[], ephys=['--deaf'])
    program = operators('ask')
    program.end()
    assert program.of('before') == ['cameras: CONNECTED', 'ephys: UNKNOWN', 'completed']
    assert program.of('running') == ['cameras: RUNNING 2026-01-01_1_subject', 'ephys: UNKNOWN', 'completed']
    assert program.of('one') == ['cameras 20 2026-01-01_1_subject'] * 2 + ['completed']
    assert 'no service "nobody"' in program.of('nobody')[0] and program.of('nobody')[1:] == ['completed']


def test_without_all_services_the_camera_workflow_does_not_start(operators, rig, kit_of):
    services = rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    lines = operators('workflow', str(kit_of('bonsai') / WORKFLOWS[0]), 'run').end()
    assert lines[-1] == '0 frames'
    assert re.match(r'workflow: BridgeException .*ephys was told to refuse EXPSTART', lines[-2])
    eventually(lambda: heard(services, 'cameras') == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP'])


def test_an_interrupt_stops_the_other_workflow_and_all_services(operators, rig, kit_of):
    services = rig(cameras=[], ephys=['--dies-after', '0.1'])
    program = operators('workflow', str(kit_of('bonsai') / WORKFLOWS[1]), 'run', 'then')
    program.until('frames')
    started = run(['iblbridge', 'send', 'rig0', 'EXPSTART', '2026-01-01_1_subject'], Path.cwd())
    assert started.returncode == 0, started.stderr
    program.go()
    assert program.end()[-2] == 'workflow: completed'
    for service in SERVICES:
        assert heard(services, service) == ['EXPSTART', 'EXPINTERRUPT']


def test_responses_of_all_services_come_in_the_order_of_the_elements(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('session', '2026-01-01_1_Mäuschen→x')
    program.end()
    session = ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPEND']
    assert program.of('session') == [f'{name} 0 cameras=answered,ephys=answered' for name in session] + ['completed']
    assert heard(services, 'ephys') == session
    started = next(line for line in services.children['ephys'].output if 'EXPSTART' in line)
    assert "'2026-01-01_1_Mäuschen→x'" in started


@pytest.mark.parametrize(
    ('property_', 'element', 'got'),
    [
        ('', '2026-01-01_1_a', '"2026-01-01_1_a"'),
        ('2026-01-01_1_b', 'ignored', '"2026-01-01_1_b"'),
        ('', '["2026-01-01_1_c", {"note": 1}]', '"2026-01-01_1_c"'),
        ('"2026-01-01_1_d"', '', '"2026-01-01_1_d"'),
        ('', '{"date": "2026-01-01", "sequence": 1, "subject": "e"}', '"2026-01-01_1_e"'),
        ('[]', '2026-01-01_1_f', 'EXPSTART takes exp_ref, [data], but was given 0 arguments.'),
        ('', ' ', 'EXPSTART takes exp_ref, [data], but was given 0 arguments.'),
        ('[20]', '', 'exp_ref must be text'),
        ('["', '', 'not valid JSON'),
    ],
)
def test_arguments_come_from_the_property_or_the_element(operators, rig, property_, element, got):
    rig(cameras=[])
    program = operators('arguments', property_, element)
    assert got in program.end()[0]


def test_slow_and_dead_services_do_not_hold_the_source_up(operators, rig):
    rig(cameras=[], ephys=['--delay', '0.6'])
    program = operators('slow', '1500')
    lines = program.end()
    codes = [int(line.split()[1]) for line in program.of('slow')[:-1]]
    # Withdrawn, under way still, or told by the worker that it waited for ephys for too long: what comes first.
    assert len(codes) == 10 and codes[0] == 0 and codes[-1] in {-8053, -8054, -8070}
    assert (
        int(next(line for line in lines if line.startswith('held')).split()[1]) < 3000
    )  # of the 6 s that the services take
    assert int(lines[-1].split()[1]) < 6000


# What nobody waits for fills the ring of commands; of what is waited for there are 1,024 at most.
TOO_FAST = pytest.mark.parametrize(
    ('node', 'how', 'count'), [('request', '', 3000), ('send', 'confirm', 3000), ('send', 'notify', 20000)]
)


def flooded(operators, services: Rig, *words: str, asleep: bool = False) -> Operators:
    """Return how a flood of elements went, which came while the worker slept; it is awake again unless `asleep`."""
    program = operators('flood', *words)
    program.until('open')
    worker = services.children['worker'].process
    worker.send_signal(signal.SIGSTOP)
    try:
        program.go()
        program.until('flooded')
        if not asleep:
            worker.send_signal(signal.SIGCONT)
        program.go()
        program.end()
    finally:
        worker.send_signal(signal.SIGCONT)
    return program


@TOO_FAST
def test_a_source_that_is_too_fast_is_an_error_in_the_words_of_bonsai(operators, rig, node, how, count):
    program = flooded(operators, rig(cameras=[]), node, 'Error', str(count), how)
    (error,) = program.of('flood')
    assert re.match(r'BridgeException PING: elements come faster than the services answer.* WhenFull to Wait or', error)
    assert 'iblb_' not in error and re.search(r'-803[78]\)$', error)


@TOO_FAST
def test_a_source_that_is_too_fast_can_be_held_up_until_there_is_room(operators, rig, node, how, count):
    program = flooded(operators, rig(cameras=[]), node, 'Wait', str(count), how)
    assert program.of('flood') == ['completed']
    assert program.lines[-1] == f'{count} came, 0 dropped'


@TOO_FAST
def test_what_there_is_no_room_for_can_be_left_out_and_is_counted(operators, rig, node, how, count):
    program = flooded(operators, rig(cameras=[]), node, 'DropNewest', str(count), how)
    assert program.of('flood') == ['completed']
    came, dropped = map(int, re.fullmatch(r'(\d+) came, (\d+) dropped', program.lines[-1]).groups())
    assert 0 < dropped < count
    assert came == (count - dropped if node == 'request' else count)


def test_a_source_that_is_held_up_is_let_go_when_its_time_is_up_or_the_workflow_stops(operators, rig):
    services = rig(cameras=[])
    late = flooded(operators, services, 'send', 'Wait', '20000', 'notify soon', asleep=True)
    assert 'no room for more commands within 500 ms' in late.of('flood')[0]
    stopped = flooded(operators, services, 'request', 'Wait', '3000', 'stop', asleep=True)
    assert stopped.of('flood') == []


def test_a_dead_service_is_named_and_the_others_answer(operators, rig):
    rig(cameras=[], ephys=['--deaf'])
    program = operators('slow', '1500')
    program.end()
    assert program.of('slow')[0] == 'EXPSTATUS -8070 cameras=answered,ephys=unreachable no_echo'


def test_a_failed_command_ends_the_sequence_or_is_a_response(operators, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    program = operators('fail')
    program.end()
    assert program.of('emit') == ['EXPSTART -8070 cameras=answered,ephys=echoed callback_failed'] * 2 + ['completed']
    (thrown,) = program.of('throw')
    assert thrown.startswith('BridgeException ephys: ') and 'IBLB_E_PARTIAL, -8070' in thrown
    assert program.of('send') == ['trial', thrown]
    assert 'no service "nobody"' in program.of('wrong')[0]


def test_commands_are_sent_and_the_elements_pass(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('send')
    program.until('told')
    assert program.of('confirmed') == ['1', '2', '3', 'completed']
    assert program.of('told') == ['2026-01-01_1_subject', 'completed']
    eventually(lambda: heard(services, 'ephys') == ['EXPINIT'] * 3 + ['EXPSTART'])


def test_an_interrupt_overtakes_what_is_waited_for(operators, rig):
    rig(cameras=[], ephys=['--delay', '1'])
    program = operators('interrupt')
    program.end()
    first, second, end = program.of('interrupt')
    assert first.startswith('EXPINIT -8073 ') and second.startswith('EXPINTERRUPT 0 ') and end == 'completed'


def test_events_come_to_all_who_asked_for_them(operators, rig):
    services = rig(cameras=[], ephys=['--dies-after', '0.1'])
    program = operators('events')
    program.until('heard')
    eventually(lambda: all('EXPINTERRUPT from ephys' in program.of(name) for name in ('first', 'second')))
    services.children['ephys'].end()
    program.go()
    program.until('asked')
    eventually(lambda: 'SERVICE_DOWN from ephys' in program.of('second'))
    assert program.of('first') == ['EXPINTERRUPT from ephys']
    assert program.of('third') == ['EXPINTERRUPT from ephys', 'completed']


def test_who_comes_back_hears_nothing_old(operators, rig):
    services = rig(ephys=['--dies-after', '0.1'])

    def is_dead() -> bool:
        asked = run(['iblbridge', 'send', 'rig0', 'EXPSTATUS', '--json'], Path.cwd()).stdout
        return bool(json.loads(asked)['services'][0]['data']['status'] == 30)

    program = operators('leave')
    program.until('started')
    eventually(is_dead)
    assert run(['iblbridge', 'send', 'rig0', 'EXPCLEANUP'], Path.cwd()).returncode == 0  # so that it starts again
    program.go()
    program.until('back')
    assert program.of('again') == []
    program.go()
    program.until('started again')
    eventually(lambda: program.of('again') == ['EXPINTERRUPT from ephys'])
    assert heard(services, 'ephys').count('EXPSTART') == 2


def test_the_status_follows_the_worker(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('status')
    program.until('looking')
    eventually(lambda: program.of('status'))
    assert program.of('status')[0].startswith('alive True') and program.of('status')[0].endswith('of 2 up')
    services.children['worker'].process.kill()
    eventually(lambda: program.of('status')[-1].startswith('alive False'))


def test_a_bridge_goes_on_with_the_next_worker(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('survive')
    program.until('open')
    old = services.children['worker'].process
    old.kill()
    old.wait()
    eventually(lambda: program.of('status')[-1].startswith('alive False'))
    services.children['worker'] = worker = Child('worker', *old.args[4:-1])
    eventually(lambda: worker.ready, 20)
    eventually(lambda: program.of('status')[-1].startswith('alive True'))
    program.go()
    program.until('asked')
    assert program.of('request') == ['EXPSTATUS 0 cameras=answered,ephys=answered', 'completed']
    eventually(lambda: program.of('events') == ['WORKER_RESTARTED from '])


def test_two_operators_at_the_same_time_get_their_own_answers(operators, rig):
    rig(cameras=[], ephys=[])
    program = operators('together', '20')
    program.end()
    assert program.of('2026-01-01_1_left') == program.of('2026-01-01_1_right') == ['True', 'completed']


def test_operators_wait_for_a_bridge_that_is_opened_after_them(operators, rig):
    rig(cameras=[], ephys=[])
    program = operators('late')
    program.until('no bridge yet')
    assert len(program.lines) == 1
    program.go()
    program.end()
    answers = [line.split()[0] for line in program.of('late')]
    assert answers == ['EXPINIT', 'EXPSTATUS', 'EXPEND', 'completed']
    assert program.of('status')[-1] == 'completed'


def test_a_workflow_that_waits_for_its_segment_goes_on_beside_it(operators, rig):
    program = operators('early')
    program.until('started')
    assert program.lines == ['started']
    rig(cameras=[])
    program.go()
    program.until('stopped')
    assert program.of('request') == ['PING 0 ', 'completed']
    assert clients() == []


def test_a_workflow_that_waits_for_its_segment_can_be_stopped(operators):
    program = operators('give_up')
    program.until('waiting')
    program.go()
    began = time.monotonic()
    assert program.end() == ['waiting']
    assert time.monotonic() - began < 20  # of the 60 s that it would wait


def test_a_bridge_that_nobody_opens_is_an_error_that_says_so(operators):
    program = operators('missing')
    program.end()
    for name in ('request', 'send', 'events', 'status'):
        assert 'No bridge "rig" is open: put a CreateBridge node' in program.of(name)[-1]
    assert 'name of the bridge is missing' in program.of('nameless')[0]
    assert 'nowhere' in program.of('segment')[0] and '-8010' in program.of('segment')[0]


def test_a_bridge_is_shared_by_its_name_until_the_last_lets_it_go(operators, rig):
    rig(cameras=[])
    program = operators('shared')
    program.until('one left')
    assert program.of('one client') == ['True']
    assert 'is open already, on segment "rig0"' in program.of('other segment')[0]
    assert 'is client "bonsai" of segment "rig0" already' in program.of('other name')[0]
    assert program.of('ask') == ['PING 0 ', 'completed'] * 2
    assert clients() == ['bonsai']
    program.go()
    program.until('none left')
    assert clients() == []
    program.go()
    program.end()
    assert program.of('ask') == ['PING 0 ', 'completed'] * 3


def test_bridges_without_a_client_name_are_told_apart_over_processes(operators, rig):
    rig(cameras=[])
    first, second = operators('unnamed'), operators('unnamed')
    for program in (first, second):
        program.until('open')
        assert program.of('second') == ['PING 0 ', 'completed']
    assert sorted(clients()) == ['bonsai', 'bonsai-2', 'bonsai-3', 'bonsai-4']
    for program in (first, second):
        program.go()
        program.until('closed')
    assert clients() == []
    with Client('rig0', 'bonsai-2'):
        third = operators('unnamed')
        third.until('open')
        assert sorted(clients()) == ['bonsai', 'bonsai-2', 'bonsai-3']


def test_a_hundred_restarts_lose_no_slot_and_no_answer(operators, rig):
    rig(cameras=[], ephys=[])
    program = operators('restart', '100')
    program.until('restarted')
    assert program.lines == ['restarted']
    eventually(lambda: clients() == [])
    threads = len(os.listdir(f'/proc/{program.process.pid}/task'))
    assert threads < 60, 'threads are left over'
    program.end()


def test_a_stop_withdraws_what_no_worker_has_taken(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('cancel')
    program.until('open')
    worker = services.children['worker'].process
    worker.send_signal(signal.SIGSTOP)
    try:
        program.go()
        program.until('stopped')
    finally:
        worker.send_signal(signal.SIGCONT)
    eventually(lambda: clients() == [])
    assert run(['iblbridge', 'send', 'rig0', 'EXPEND'], Path.cwd()).returncode == 0
    assert heard(services, 'cameras') == heard(services, 'ephys') == ['EXPEND']
    assert program.end() == ['open', 'stopped']


def test_a_program_that_ends_with_commands_pending_ends_in_order(operators, rig):
    rig(cameras=['--delay', '1'])
    for _ in range(6):
        program = operators('leave_at_once')
        program.until('pending')
        program.go()
        assert program.end() == ['ask: PING 0 ', 'ask: completed', 'pending']


def test_a_worker_that_sleeps_or_is_dead_is_told_with_what_was_sent(operators, rig):
    services = rig(cameras=[])
    program = operators('timeout')
    program.until('open')
    worker = services.children['worker'].process
    worker.send_signal(signal.SIGSTOP)
    program.go()
    program.until('timed out')
    worker.kill()
    worker.wait()
    program.go()
    program.end()
    assert program.of('asleep')[:2] == ['-8053 EXPSTATUS: no response within 200 ms; nothing was sent.'] * 2
    assert program.of('dead')[:2] == ['-8018 EXPSTATUS: no worker serves the segment; nothing was sent.'] * 2


def test_the_services_are_told_when_the_workflow_stops(operators, rig):
    services = rig(cameras=[], ephys=[])
    program = operators('stop')
    program.until('stopped')
    for service in SERVICES:
        eventually(lambda name=service: heard(services, name) == ['EXPSTART', 'EXPEND', 'EXPCLEANUP'])
    assert clients() == []


def test_the_package_is_made_of_the_same_sources(kit_of):
    for folder in (SOURCES, kit_of('bonsai')):
        project = ET.parse(folder / 'package' / 'Bonsai.IblBridge.csproj').getroot()
        compiled = set()
        for element in project.iter('Compile'):
            condition = re.fullmatch(r"!Exists\('(.*)'\)", element.attrib.get('Condition', "!Exists('-')"))
            if not (folder / 'package' / condition[1]).exists():
                for pattern in element.attrib['Include'].split(';'):
                    compiled |= {path.name for path in (folder / 'package').glob(pattern)}
        assert compiled == {path.name for path in (kit_of('bonsai') / 'Extensions').glob('*.cs')}


def test_bonsai_finds_in_the_project_file_what_the_operators_need(kit_of):
    project = ET.parse(kit_of('bonsai') / 'Extensions.csproj').getroot()
    assert [item.attrib for item in project.iter('PackageReference')] == [
        {'Include': 'Bonsai.Core', 'Version': '2.6.0'}
    ]
    files = {path.name for path in (kit_of('bonsai') / 'Extensions').iterdir()}
    assert {'Native.cs', 'BridgeClient.cs', 'Serving.cs', 'CreateBridge.cs', 'Serve.cs'} <= files
    assert {Path(place).name for place in kit.libraries('bonsai')} <= files


@pytest.mark.parametrize(
    ('case', 'is_lost'), [('stopped', False), ('failed', True), ('upstream', True), ('recovered', False)]
)
def test_a_workflow_that_an_error_ends_is_lost_and_one_that_is_stopped_is_not(operators, serve, server, case, is_lost):
    serve('rig0', {'cameras': server.uri}, on_client_lost=[ClientLost('bonsai', 'EXPEND', 0.0)])
    with Client('rig0', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        operators(case).end()
        Client('rig0', 'afterwards').abandon()  # the first that is lost, if the workflow is not
        event = watch.next_event(20.0)
    assert event and event['client'] == ('bonsai' if is_lost else 'afterwards')
    if is_lost:
        eventually(lambda: [4, None] in server.saw)

"""LabVIEW without LabVIEW: a program reads the guide, and does what it says to the letter.

A `Node` calls the kit's library with the types that the table of the guide prescribes, and with memory as LabVIEW gives
it; `Diagram` follows the steps of the guide's VIs; `unflatten` reads responses with the guide's clusters, as Unflatten
From JSON does. So what the guide says of settings, steps and clusters is tried on a worker with real services.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from guides import ROOT
from peers import eventually, free_port
from stock_masters import Stock

from bridge import kit
from bridge.auxiliaries import Auxiliaries
from bridge.config import ListenerConfig
from bridge.native import LIBRARY
from bridge.numbers import CODES
from bridge.segment import inspection as doctor
from bridge.segment.library import error_text

sys.path.insert(0, str(ROOT / 'csrc' / 'generate'))
import interface  # noqa: E402

INTERFACE = interface.load()
GUIDE = (ROOT / 'examples' / 'labview' / 'README.md').read_text(encoding='utf-8')
ERRORS = ROOT / 'examples' / 'labview' / 'iblbridge-errors.txt'
REF = '2026-01-01_1_subject'
GUARD = b'\xa5' * 64  # behind each buffer


def tables(*header: str) -> list[list[dict[str, str]]]:
    """Return the guide's tables whose header begins so, each row by the words of its header."""
    found = []
    for block in re.findall(r'(?:^\|.*\n)+', GUIDE, re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines()]
        if tuple(lines[0][: len(header)]) == header:
            found.append([dict(zip(lines[0], line, strict=True)) for line in lines[2:]])
    return found


def settings() -> dict[str, list[dict[str, str]]]:
    """Return the table of nodes: by function the rows of its parameters, the return type first."""
    found: dict[str, list[dict[str, str]]] = {}
    name = ''
    for row in tables('function')[0]:
        name = row['function'].strip('`') or name
        found.setdefault(name, []).append({**row, 'parameter': row['parameter'].strip('`')})
    return found


NODES = settings()
ERROR, COMMAND, SESSION, SERVING = tables('step')
CLUSTERS = {name: tables(name)[0] for name in ('response', 'service', 'event', 'command')}
FORMAT = 'Pass, String format or Array format'


def wires(row: dict[str, str]) -> dict[str, Any]:
    """Return what a step wires: a constant, or None for a wire."""
    found = re.findall(r'`(\w+)`(?: = `([^`]+)`)?', row['wired to it'])
    return {name: json.loads(constant) if constant else None for name, constant in found}


def again(row: dict[str, str]) -> set[int]:
    """Return the statuses at which a step's loop goes on."""
    return {int(code) for code in re.findall(r'-8\d{3}|5\d{3}', row['loop'])}


def cases(row: dict[str, str]) -> list[int]:
    """Return the messages whose case a step stands in."""
    found = re.match(r'cases? ([^(]*)\(', row['loop'])
    return [int(number) for number in re.findall(r'\d+', found[1])] if found else []


def rounds(row: dict[str, str]) -> int:
    """Return how often a step's loop goes round at most."""
    return int(re.search(r'at most (\d+) times', row['loop'])[1])


class Node:
    """A Call Library Function Node, configured as the guide says; each call comes from another thread of a pool."""

    c_types = {
        'Signed 32-bit Integer': ctypes.c_int32,
        '8-byte Double': ctypes.c_double,
        'Unsigned 8-bit Integer': ctypes.c_uint8,
    }

    def __init__(self, library: ctypes.CDLL, name: str, pool: ThreadPoolExecutor) -> None:
        returned, *self.parameters = NODES[name]
        self.pool = pool
        self.function = library[name]
        self.function.restype = self.c_types[returned['Data type']]
        self.function.argtypes = [self._argtype(parameter) for parameter in self.parameters]

    def _argtype(self, parameter: dict[str, str]) -> Any:
        if parameter['Type'] == 'String':
            assert parameter[FORMAT] == 'C String Pointer'
            return ctypes.c_char_p
        plain = self.c_types[parameter['Data type']]
        if parameter['Type'] == 'Numeric' and parameter[FORMAT] == 'Value':
            return plain
        assert (parameter['Type'], parameter[FORMAT]) in {
            ('Numeric', 'Pointer to Value'),
            ('Array', 'Array Data Pointer'),
        }
        return ctypes.POINTER(plain)

    def start(self, **wired: Any) -> Future[dict[str, Any]]:
        return self.pool.submit(self._call, wired)

    def __call__(self, **wired: Any) -> dict[str, Any]:
        return self.start(**wired).result()

    def _call(self, wired: dict[str, Any]) -> dict[str, Any]:
        assert set(wired) == {p['parameter'] for p in self.parameters if p['in or out'].startswith('in')}
        given = [self._memory(parameter, wired) for parameter in self.parameters]
        found = {'status': self.function(*given)}
        for parameter, memory in zip(self.parameters, given, strict=True):
            if parameter['in or out'] == 'out':
                found[parameter['parameter']] = self._read(parameter, memory, wired)
        return found

    def _memory(self, parameter: dict[str, str], wired: dict[str, Any]) -> Any:
        value = wired.get(parameter['parameter'])
        if parameter['in or out'] == 'out':
            if size := parameter['Minimum size']:
                buffer = ctypes.create_string_buffer(b'?' * wired[size.strip('`')] + GUARD)
                return buffer if parameter['Type'] == 'String' else ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint8))
            return ctypes.pointer(self.c_types[parameter['Data type']]())
        if parameter['Type'] == 'Array':
            return (ctypes.c_uint8 * len(value))(*value)
        return value.encode() if parameter['Type'] == 'String' else value

    def _read(self, parameter: dict[str, str], memory: Any, wired: dict[str, Any]) -> Any:
        if not parameter['Minimum size']:
            return memory.contents.value
        capacity = wired[parameter['Minimum size'].strip('`')]
        whole = ctypes.string_at(memory, capacity + len(GUARD))
        assert whole.endswith(GUARD), f'{parameter["parameter"]} was written beyond its {capacity} bytes'
        return whole[:capacity].split(b'\0')[0].decode('ascii') if parameter['Type'] == 'String' else whole[:capacity]


class Diagram:
    """The VIs of the guide, step by step."""

    def __init__(self, library: ctypes.CDLL, pool: ThreadPoolExecutor) -> None:
        self.nodes = {name: Node(library, name, pool) for name in NODES}
        self.handle = 0
        self.capacity = 0  # instead of the guide's, for tests

    def step(self, row: dict[str, str], **wired: Any) -> dict[str, Any]:
        """Run one node; `wired` is what lies on its wires."""
        inputs = {name: wired[name] if constant is None else constant for name, constant in wires(row).items()}
        if 'capacity' in inputs:
            inputs['capacity'] = wired.get('capacity', inputs['capacity'])
        return self.nodes[row['node'].split('`')[1]](**inputs)

    def loop(self, row: dict[str, str], stopped: Callable[[], bool] = bool, most: int = 0, **wired: Any) -> Any:
        """Run a node in its While Loop and return what the last round gave."""
        for _ in range(most or rounds(row)):
            found = self.step(row, **wired)
            if found['status'] not in again(row) or stopped():
                break
            if found['status'] == CODES['IBLB_E_BUFFER']:
                wired['capacity'] = found['needed']
            if found['status'] == CODES['IBLB_E_NO_WORKER']:
                time.sleep(0.2)
        return found

    def error(self, status: int) -> str:
        """Error.vi: return the source of the error cluster."""
        return str(self.step(ERROR[0], handle=self.handle)['text']) if status else ''

    def command(
        self, row: dict[str, str], stopped: Callable[[], bool] = bool
    ) -> tuple[int, str, dict[str, Any] | None]:
        """Command.vi: return the status, the response as text, and what the cancel step gave, if it was run."""
        wired: dict[str, Any] = {'handle': self.handle, **{k: v for k, v in wires(row).items() if v is not None}}
        sent = self.step(COMMAND[0], **wired)
        if sent['status'] < 0:
            return sent['status'], '', None
        if self.capacity:
            wired['capacity'] = self.capacity
        found = self.loop(COMMAND[1], stopped, request=sent['request'], **wired)
        given_up = None
        if found['status'] in again(COMMAND[1]):
            given_up = self.step(COMMAND[2], request=sent['request'], **wired)
        return found['status'], found['json'], given_up

    def tell(self, message: str, args_json: str = '', **options: Any) -> tuple[int, str, dict[str, Any] | None]:
        """Command.vi for a message by its name."""
        number = {constant.name: constant.number for constant in INTERFACE.messages}[f'IBLB_{message}']
        return self.command(
            {'wired to it': f'`message` = `{number}`, `args_json` = `{json.dumps(args_json)}`'}, **options
        )

    def open(self) -> int:
        found = self.loop(SESSION[0])
        self.handle = found['handle']
        return int(found['status'])

    def close(self) -> int:
        return int(self.step(SESSION[-1], handle=self.handle)['status'])

    def session(self, watch: int = 3) -> tuple[list[tuple[str, int, Any]], list[dict[str, Any]]]:
        """The session: return what each command gave, with the response unflattened, and the events."""
        said: list[tuple[str, int, Any]] = []
        events = []
        fine = self.open() == 0
        for row in SESSION[1:-1]:
            on_error = 'only if a step before failed' in row['loop']
            if fine == on_error:
                continue
            if row['node'] == 'Command.vi':
                status, text, _ = self.command(row)
                said.append((re.search(r'\((\w+)\)', row['wired to it'])[1], status, unflatten('response', text)))
            else:
                found = self.loop(row, most=watch, handle=self.handle)
                status = 0 if found['status'] in again(row) else found['status']
                if found.get('json'):
                    events.append({'message': found['message'], **unflatten('event', found['json'])})
            fine = fine and status >= 0
        assert self.close() == 0
        return said, events


class Camera:
    """The VI of the guide that serves, in a thread; what its camera does is what the guide leaves to its reader."""

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.is_ready = self.has_died = self.is_stopped = False
        self.slow = False  # an EXPINIT waits until it is not
        self.kept = 0
        self.asked: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        found = diagram.loop(SERVING[0])
        diagram.handle = found['handle']
        assert found['status'] == 0
        assert diagram.step(SERVING[1], handle=diagram.handle)['status'] == 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wired = {'handle': self.diagram.handle}
        while not self.is_stopped:
            found = self.diagram.step(SERVING[2], **wired)
            self.statuses.append(found['status'])
            if found['status'] == CODES['IBLB_E_BUFFER']:
                wired['capacity'] = found['needed']
            elif found['status'] == 0:
                self._obey(found)
            else:
                assert found['status'] in again(SERVING[2])
            if self.kept and not self.slow:
                self.is_ready = True
                self._do(SERVING[3], self.kept)
                self.kept = 0
            if self.has_died:
                self._do(SERVING[7], 0)
                self.has_died = False

    def _obey(self, found: dict[str, Any]) -> None:
        asked = json.loads(found['json'])
        self.asked.append({**unflatten('command', asked), 'args': asked['args']})
        row = [row for row in SERVING if found['message'] in cases(row)][0]
        if found['message'] == 1:
            self.kept = found['command']
        elif found['message'] == 2 and not self.is_ready:
            self._do(SERVING[5], found['command'])
        elif found['message'] == 2:
            self._do(row, found['command'], data_json=json.dumps({'file': f'{asked["args"][0]}.avi'}))
        else:
            if found['message'] == 16 and self.kept:
                self._do(
                    {**SERVING[5], 'wired to it': SERVING[5]['wired to it'].split(' = ')[0]},
                    self.kept,
                    sentence='stopped',
                )
                self.kept = 0
            self._do(row, found['command'], data_json='{"frames": 12}')

    def _do(self, row: dict[str, str], command: int, **wired: Any) -> None:
        found = self.diagram.step(row, handle=self.diagram.handle, command=command, **wired)
        self.statuses.append(found['status'])

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopped = True
        self._thread.join(10)
        assert self.diagram.step(SERVING[8], handle=self.diagram.handle)['status'] == 0


def fits(kind: str, value: Any) -> bool:
    """Say whether Unflatten From JSON can put a value into a LabVIEW type."""
    if kind in ('I32', 'I64'):
        return type(value) is int and -(1 << (int(kind[1:]) - 1)) <= value < 1 << (int(kind[1:]) - 1)
    return type(value) is {'String': str, 'Boolean': bool}[kind]


def unflatten(cluster: str, text: str | dict[str, Any]) -> dict[str, Any]:
    """Unflatten From JSON with a cluster of the guide, strict validation FALSE."""
    body = json.loads(text) if isinstance(text, str) else text
    found = {}
    for row in CLUSTERS[cluster]:
        label, kind = row[cluster].strip('`'), row['LabVIEW type']
        assert label in body, f'no {label} in {body}'
        if kind == '1D array of the next cluster':
            found[label] = [unflatten('service', entry) for entry in body[label]]
        else:
            assert fits(kind, body[label]), f'{label} is no {kind}: {body[label]!r}'
            found[label] = body[label]
    # In this order, and nothing is missing in the cluster but what has no fixed shape.
    assert list(found) == [key for key in body if key not in ('data', 'args')]
    return found


@pytest.fixture
def diagram(kit_of: Callable[[str], Path]) -> Iterator[Diagram]:
    """Return the VIs of the guide with the library of the kit, found as LabVIEW finds it."""
    wildcard = re.search(r'`\./(iblbridge_\*\.\*)`', GUIDE)
    assert wildcard
    name = wildcard[1].replace('*', str(kit.BITS), 1).replace('.*', LIBRARY.suffix)
    with ThreadPoolExecutor(4, 'labview') as pool:
        diagram = Diagram(ctypes.CDLL(str(kit_of('labview') / name)), pool)
        yield diagram
        diagram.close()


# --- the page ---


def test_the_table_says_of_each_parameter_what_the_header_says():
    as_in_dialog = {
        'int': ('in', 'Numeric', 'Signed 32-bit Integer', 'Value'),
        'int *': ('out', 'Numeric', 'Signed 32-bit Integer', 'Pointer to Value'),
        'double *': ('out', 'Numeric', '8-byte Double', 'Pointer to Value'),
        'const char *': ('in, Constant', 'String', '', 'C String Pointer'),
        'char *': ('out', 'String', '', 'C String Pointer'),
        'const unsigned char *': ('in, Constant', 'Array', 'Unsigned 8-bit Integer', 'Array Data Pointer'),
        'unsigned char *': ('out', 'Array', 'Unsigned 8-bit Integer', 'Array Data Pointer'),
    }
    assert list(NODES) == [function.name for function in INTERFACE.functions]
    for function in INTERFACE.functions:
        returned, *rows = NODES[function.name]
        assert list(returned.values())[1:] == ['return type', 'out', 'Numeric', 'Signed 32-bit Integer', '', '']
        assert [row['parameter'] for row in rows] == [parameter.name for parameter in function.parameters]
        for row, parameter in zip(rows, function.parameters, strict=True):
            assert (row['in or out'], row['Type'], row['Data type'], row[FORMAT]) == as_in_dialog[parameter.type]
            writes_text = parameter.type in ('char *', 'unsigned char *')
            assert row['Minimum size'] == ('`capacity`' if writes_text else '')
            assert not writes_text or 'capacity' in [p.name for p in function.parameters if p.type == 'int']


def test_the_steps_wire_every_input_and_wait_at_most_200_ms():
    inputs = {n: {r['parameter'] for r in rows if r['in or out'].startswith('in')} for n, rows in NODES.items()}
    inputs['Command.vi'] = {'handle', 'message', 'args_json'}
    named = {constant.name: constant.number for constant in INTERFACE.messages}
    for row in [*ERROR, *COMMAND, *SESSION, *SERVING]:
        node = (re.match(r'`(\w+)`', row['node']) or ['', row['node']])[1]
        assert set(wires(row)) == inputs[node], row
        assert wires(row).get('timeout_ms', 200) == 200
        assert again(row) <= set(CODES.values())
        if name := re.search(r'\((\w+)\)', row['wired to it']):
            assert named[f'IBLB_{name[1]}'] == wires(row)['message']
        if case := re.search(r'^cases? ([\d, and]+) \(([\w, ]+)\)', row['loop']):
            numbers = [int(number) for number in re.findall(r'\d+', case[1])]
            assert numbers == [named[f'IBLB_{name}'] for name in case[2].split(', ')]
    assert all(row['step'] == str(i) for steps in (ERROR, COMMAND, SESSION, SERVING) for i, row in enumerate(steps, 1))
    asked = {number for row in SERVING for number in cases(row)}
    assert sum(asked) == wires(SERVING[1])['message_mask']


def test_each_code_and_function_that_the_page_names_exists():
    assert {int(code) for code in re.findall(r'-8\d{3}\b|\b500\d\b', GUIDE)} <= set(CODES.values())
    assert set(re.findall(r'\biblb_\w+', GUIDE)) == set(NODES)


def test_the_error_file_has_the_form_that_labview_asks_for():
    lines = ERRORS.read_bytes().decode('ascii').splitlines()
    assert lines[:3] == ['<?xml version="1.0" encoding="Windows-1252"?>', '<nidocument>', '<nicomment>']
    assert [line for line in lines if line.startswith('<nifamily')] == [
        '<nifamily familyname="iblbridge" displayname="iblbridge">'
    ]
    root = ElementTree.parse(ERRORS).getroot()
    assert root.tag == 'nidocument'
    assert [child.tag for child in root] == ['nicomment', *['nierror'] * (len(CODES) - 1)]


def test_the_error_file_explains_every_code_in_the_ranges_that_labview_leaves_to_users():
    found = {int(entry.attrib['code']): entry.text for entry in ElementTree.parse(ERRORS).getroot().iter('nierror')}
    wanted = {number: name for name, number in CODES.items() if number}
    assert {n: ' '.join((text or '').split()) for n, text in found.items()} == {
        n: f'{name}: {error_text(n)}' for n, name in wanted.items()
    }
    assert all(-8999 <= number <= -8000 or 5000 <= number <= 9999 for number in found)


def test_the_kit_holds_the_libraries_by_the_names_that_the_wildcard_stands_for(kit_of):
    assert sorted(path.name for path in kit_of('labview').iterdir()) == sorted(
        [
            'README.md',
            'iblbridge-errors.txt',
            'iblbridge.h',
            f'iblbridge_{kit.BITS}{LIBRARY.suffix}',
            *(set(kit.WINDOWS) - set(kit.missing('labview')) - {LIBRARY.name}),
        ]
    )


# --- the steps, on a rig ---


def test_a_session_by_the_steps_of_the_guide(diagram, rig):
    rig(cameras=[], ephys=[])
    said, events = diagram.session()
    assert [(name, status) for name, status, _ in said] == [
        ('EXPINIT', 0),
        ('EXPSTART', 0),
        ('EXPEND', 0),
        ('EXPCLEANUP', 0),
    ]
    assert [[entry['ok'] for entry in body['services']] for _, _, body in said] == [[True, True]] * 4
    assert events == []


def test_a_failing_service_ends_the_session_with_an_interrupt_and_is_named(diagram, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    said, _ = diagram.session()
    assert [(name, status) for name, status, _ in said] == [
        ('EXPINIT', 0),
        ('EXPSTART', CODES['IBLB_E_PARTIAL']),
        ('EXPINTERRUPT', 0),
    ]
    services = said[1][2]['services']
    assert [[entry[key] for key in ('name', 'ok', 'state', 'reason', 'status')] for entry in services] == [
        ['cameras', True, 'answered', '', 20],
        ['ephys', False, 'echoed', 'callback_failed', -1],
    ]
    assert diagram.open() == 0
    assert diagram.tell('EXPINIT', '{"exp_ref": "2026-01-01_1_subject"}')[0] == 0
    status, _, _ = diagram.tell('EXPSTART', '["2026-01-01_1_subject"]')
    assert status == CODES['IBLB_E_PARTIAL']
    assert 'ephys' in diagram.error(status) and 'was told to refuse EXPSTART' in diagram.error(status)


def test_a_camera_that_dies_is_an_event(diagram, rig):
    rig(cameras=[], ephys=['--dies-after', '0.2'])
    said, events = diagram.session(watch=50)
    assert [(event['message'], event['event'], event['service']) for event in events] == [(16, 'EXPINTERRUPT', 'ephys')]
    assert said[-1][:2] == ('EXPCLEANUP', 0)


def test_a_stopped_command_is_given_up_and_the_next_one_gets_its_own_answer(diagram, rig):
    rig(cameras=[], ephys=['--delay', '0.5'])
    assert diagram.open() == 0
    status, text, given_up = diagram.tell('EXPSTATUS', stopped=lambda: True)
    assert (status, text) == (CODES['IBLB_E_TIMEOUT'], '')
    assert given_up == {'status': CODES['IBLB_W_ACCEPTED']}
    status, text, given_up = diagram.tell('EXPINFO')
    assert (status, given_up, unflatten('response', text)['message']) == (0, None, 'EXPINFO')


def test_a_response_larger_than_the_string_is_asked_for_again_with_the_size_needed(diagram, rig):
    rig(cameras=[], ephys=[])
    assert diagram.open() == 0
    diagram.capacity = 64
    status, text, _ = diagram.tell('EXPSTATUS')
    assert status == 0 and len(unflatten('response', text)['services']) == 2


def test_the_session_waits_for_a_segment_and_says_so_in_the_end(diagram, monkeypatch):
    monkeypatch.setitem(SESSION[0], 'loop', SESSION[0]['loop'].replace('50 times', '2 times'))
    began = time.monotonic()
    assert diagram.open() == CODES['IBLB_E_NO_SEGMENT']
    assert 0.3 < time.monotonic() - began < 2.0
    assert diagram.handle == 0 and 'rig0' in diagram.error(CODES['IBLB_E_NO_SEGMENT'])


def test_the_clusters_fit_every_kind_of_response(diagram, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPEND'])
    assert diagram.open() == 0

    def response(message, args_json=''):
        status, text, _ = diagram.tell(message, args_json)
        body = unflatten('response', text)
        assert body['code'] == status and body['message'] == message
        return status, [entry['state'] for entry in body['services']]

    assert response('PING') == (0, [])
    assert response('SERVICES') == (0, ['not_sent', 'not_sent'])
    assert response('EXPINIT') == (0, ['answered', 'answered'])
    assert response('EXPSTART') == (CODES['IBLB_E_ARGS'], [])
    assert response('EXPEND') == (CODES['IBLB_E_PARTIAL'], ['answered', 'echoed'])
    assert response('EXPINTERRUPT') == (0, ['answered', 'answered'])


def test_what_the_guide_says_of_data_stands_at_its_path(diagram, rig):
    rig(cameras=[], ephys=[])
    assert diagram.open() == 0
    assert diagram.tell('EXPSTART', '["2026-01-01_1_subject"]')[0] == 0
    found = {}
    for row in tables('after')[0]:
        path = re.findall(r'`(\w+)`', row['path'])
        at = json.loads(diagram.tell(row['after'])[1])
        for item in path:
            at = at[int(item)] if isinstance(at, list) else at[item]
        assert fits(row['type and defaults'], at), (row, at)
        found[row['after'], path[-1]] = at
    assert found['EXPINFO', 'exp_ref'] == found['SERVICES', 'exp_ref'] == '2026-01-01_1_subject'
    assert found['EXPSTATUS', 'status'] == found['EXPINFO', 'status'] == 20
    assert found['SERVICES', 'health'] == 'up'


def test_the_other_nodes_can_be_called_too(diagram, rig):
    rig(cameras=[], ephys=[])
    assert diagram.open() == 0
    nodes, handle = diagram.nodes, diagram.handle
    assert nodes['iblb_version']() == {'status': INTERFACE.version}
    assert nodes['iblb_clock_ns']()['now'] > 1e9
    text = nodes['iblb_error_text'](code=CODES['IBLB_E_FULL'], capacity=1024)
    assert text == {'status': 0, 'text': error_text(CODES['IBLB_E_FULL'])}
    assert nodes['iblb_notify'](handle=handle, services='', message=32, args_json='', ttl_ms=0) == {'status': 0}
    called = nodes['iblb_call'](
        handle=handle, services='ephys', message=32, args_json='', timeout_ms=5000, capacity=4096
    )
    assert called['status'] == 0 and [s['name'] for s in unflatten('response', called['json'])['services']] == ['ephys']
    sent = nodes['iblb_send_msgpack'](
        handle=handle, services='', message=2, args=b'\x91\xb42026-01-01_1_subject', args_bytes=22, ttl_ms=0
    )
    got = nodes['iblb_wait_msgpack'](handle=handle, request=sent['request'], timeout_ms=5000, capacity=4096)
    assert got['status'] == 0 and b'2026-01-01_1_subject' in got['bytes'][: got['needed']]
    assert nodes['iblb_worker_state'](handle=handle) == {'status': 0, 'alive': 1, 'services': 2, 'services_up': 2}


# --- the VI that serves ---


@pytest.fixture
def listener(serve: Callable[..., Any]) -> Any:
    return serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0),))


def masters(worker: Any) -> Any:
    """Return a master that goes on after errors."""
    return closing(Auxiliaries({'cameras': f'udp://127.0.0.1:{worker.ports["cameras"]}'}))


def test_a_stock_master_runs_an_experiment_with_the_vi_that_serves(diagram, listener):
    with Camera(diagram) as camera, Stock(listener.ports['cameras']) as master:
        ask, services = master.run, master.services
        assert ask(services.init({'exp_ref': REF}))['cameras'] == [10, {'exp_ref': REF}]
        assert ask(services.start(REF, {'note': 'ä' * 100}))['cameras'] == [REF, {'file': f'{REF}.avi', 'status': 20}]
        assert ask(services.status('RUNNING'))['cameras'] == [20]
        camera.has_died = True
        died = eventually(lambda: [data for event, data in master.told if event == 16])
        assert died[0][0]['why'] == 'The camera died.'
        assert ask(services.stop())['cameras'] == [{'frames': 12, 'status': 30}]
        assert ask(services.cleanup())['cameras'] == [{'frames': 12, 'status': 0}]
    assert [one['message'] for one in camera.asked] == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']
    assert all(one['service'] == 'cameras' and one['timeout_ms'] == 8000 for one in camera.asked)


def test_the_vi_that_serves_fails_what_it_cannot_do_and_is_reached_by_an_interrupt(diagram, listener):
    with Camera(diagram) as camera, masters(listener) as master, masters(listener) as other:
        cold = master.submit('EXPSTART', REF).result(20)['cameras']
        assert not cold.ok and 'The camera is cold. Send EXPINIT first.' in cold.error
        camera.slow = True
        slow = master.submit('EXPINIT', {'exp_ref': REF})
        eventually(lambda: camera.kept)
        assert other.submit('EXPINTERRUPT').result(20)['cameras'].reply == [{'frames': 12, 'status': 30}]
        assert 'stopped' in slow.result(20)['cameras'].error
        camera.slow = False
        assert master.submit('EXPINIT', {'exp_ref': REF}).result(20)['cameras'].ok


def test_what_the_vi_has_in_hand_when_it_stops_is_told_to_its_master(diagram, listener):
    with masters(listener) as master:
        with Camera(diagram) as camera:
            camera.slow = True
            slow = master.submit('EXPINIT', {'exp_ref': REF})
            eventually(lambda: camera.kept)
        assert 'ended before it answered' in slow.result(20)['cameras'].error


def test_the_vi_that_serves_waits_for_the_next_worker_and_may_be_late(diagram, listener, serve):
    with Camera(diagram) as camera:
        listener.end_of_test()
        eventually(lambda: CODES['IBLB_E_NO_WORKER'] in camera.statuses, 20)
        port = free_port()
        again = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=port, timeout=0.3),))
        camera.slow = True
        with masters(again) as master:
            assert not master.submit('EXPINIT', {'exp_ref': REF}).result(20)['cameras'].ok
            camera.slow = False
            eventually(lambda: CODES['IBLB_E_LATE'] in camera.statuses, 20)
            assert master.submit('EXPEND').result(20)['cameras'].ok


# --- Abort ---


def test_a_hundred_aborted_runs_leave_no_slot_no_handle_and_no_answer_behind(diagram, rig):
    rig(cameras=[], ephys=[])
    nodes = diagram.nodes
    left: list[dict[str, int]] = []
    waits: list[Future[dict[str, Any]]] = []
    for run in range(100):
        assert diagram.open() == 0
        mine = {'handle': diagram.handle}
        for theirs in left:  # the handle of the run before is closed, and its requests are unknown to this one
            assert nodes['iblb_cancel'](**theirs)['status'] == CODES['IBLB_E_HANDLE']
            assert nodes['iblb_cancel'](**{**theirs, **mine})['status'] == CODES['IBLB_E_REQUEST']
        for theirs, wait in zip(left, waits, strict=True):
            gave = wait.result()
            assert gave['status'] in (0, CODES['IBLB_E_CLOSED'], CODES['IBLB_E_HANDLE'])
            assert not gave['status'] or not gave['json']
            assert gave['status'] or json.loads(gave['json'])['request'] == theirs['request']
        left, waits = [], []
        for turn in range(4):
            if turn == run % 4:  # so it has the place that a command without an answer had in the run before
                reference = f'2026-01-01_{run}_subject'
                status, text, _ = diagram.tell('EXPSTART', json.dumps([reference]))
                values = [entry['data']['value'][0] for entry in json.loads(text)['services']]
                assert (status, values) == (0, [reference, reference])
            else:  # sent, and the VI is aborted in the wait
                sent = {**mine, 'services': '', 'message': 32, 'args_json': '', 'ttl_ms': 0}
                left.append({**mine, 'request': nodes['iblb_send'](**sent)['request']})
                waits.append(nodes['iblb_wait'].start(**left[-1], timeout_ms=2000, capacity=65536))
    alone = eventually(lambda: len(slots := doctor.inspect('rig0').slots) == 1 and slots[0])
    assert (alone.client, alone.alive) == ('labview', True)
    others = doctor.inspect('rig0').size - 2  # but this one, and the one kept for the tools
    opened = [nodes['iblb_open'](segment='rig0', client=f'other-{i}', timeout_ms=0) for i in range(others)]
    assert [found['status'] for found in opened] == [0] * others
    for found in opened:
        nodes['iblb_close'](handle=found['handle'])
    assert diagram.close() == 0
    eventually(lambda: doctor.inspect('rig0').slots == [])

"""LuaJIT: iblbridge.lua, and its JSON."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import interrupted
import pytest
from guides import SERVING, environment, require, run
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import eventually
from processes import kill
from scenarios import WHOLE

from bridge import kit
from bridge.cli.demo.children import Child
from bridge.segment import inspection as doctor

PROGRAMS = Path(__file__).parent / 'luajit'
OPEN = "local bridge = require 'iblbridge'; local rig, status = bridge.open('rig0', 'lua', 2000); "
TRY = 'local function try(...) local fine, e = pcall(...); assert(not fine); return e end; '


class Lua:
    """Runs code in a folder that has iblbridge.lua."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fails(self, code: str) -> str:
        """Run code that ends with an error, and return that."""
        done = run(['luajit', '-e', code], self.place)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def __call__(self, code: str) -> list[str]:
        """Run code and return the lines that it printed."""
        done = run(['luajit', '-e', code], self.place)
        assert (done.returncode, done.stderr) == (0, ''), done.stdout + done.stderr
        return done.stdout.splitlines()

    @contextmanager
    def started(self, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Give a process that runs beside the test."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            ['luajit', *map(str, words)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            cwd=self.place,
            env=environment(),
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def lua(kit_of: Callable[[str], Path]) -> Lua:
    """Lua in the kit."""
    require('luajit')
    return Lua(kit_of('luajit'))


@pytest.fixture(scope='module')
def again(kit_of: Callable[[str], Path]) -> Iterator[Callable[[str], str]]:
    """Return a function that has Lua read a JSON text and write it again."""
    require('luajit')
    with Lua(kit_of('luajit')).started(PROGRAMS / 'json.lua') as process:
        assert process.stdin is not None and process.stdout is not None
        into, out = process.stdin, process.stdout

        def through(text: str) -> str:
            into.write(text + '\n')
            into.flush()
            return out.readline().rstrip('\n')

        yield through


def values() -> st.SearchStrategy[Any]:
    """Return what JSON can express; whole numbers as far as doubles are exact."""
    numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    plain = st.none() | st.booleans() | numbers | st.text()
    return st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and true and 1 are not."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@settings(max_examples=300, deadline=None)
@given(value=values(), ascii=st.booleans(), wide=st.booleans())
def test_json_comes_back_as_it_was(again, value, ascii, wide):
    text = json.dumps(value, ensure_ascii=ascii, separators=(' ,\t', ' :\r') if wide else (',', ':'))
    if not any(mark in text for mark in '\n\r') or wide:
        assert same(json.loads(again(text.replace('\r', ' '))), value)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        (r'"\u00e4\u20ac\ud83d\ude00"', 'ä€😀'),
        (r'"\uD834\uDD1E \uFFFF\uE000"', '𝄞 \uffff\ue000'),
        (r'"\ud800\udbff\udc00"', '\ufffd\U0010fc00'),
        (r'"\udc00 \ud800x \ud800\u0041"', '\ufffd \ufffdx \ufffdA'),
        (r'"\b\f\n\r\t\/\"\\ \\u0041 \u0000\u007f"', '\b\f\n\r\t/"\\ \\u0041 \0\x7f'),
        ('[[],{},[[]],[{}],null,[null]]', [[], {}, [[]], [{}], None, [None]]),
        ('{"":{"a":[],"b":{}},"1":false}', {'': {'a': [], 'b': {}}, '1': False}),
        ('[0,-0,0.5,-1.25e-3,1E+2,9007199254740991,1e300]', [0, 0, 0.5, -0.00125, 100, 9007199254740991, 1e300]),
        (' \t[ 1 , 2 ] ', [1, 2]),
        ('[' * 100 + ']' * 100, None),
    ],
)
def test_json_that_is_odd_is_read(again, text, value):
    if value is None:
        value = json.loads(text)
    assert same(json.loads(again(text)), value)


NO_JSON = [
    *('', ' ', 'nul', 'nulll', 'True', 'NaN', '-', '+1', '01', '-01', '1.', '.5', '1e', '1e+', '0x10', '1 2', '--1'),
    *('[', ']', '[1', '[1,', '[1,]', '[,1]', '[1 2]', '[1}', '{', '{"a"', '{"a":', '{"a":1', '{"a":1,}', '{a:1}'),
    *('{1:2}', '{"a" 1}', '{,}', '{"a":1]', '"', '"a', r'"\"', r'"\x"', r'"\u12"', r'"\u12g4"', '"\t"', '"a\x01"'),
    *("'a'", '[1]x', '{}{}', '"a" "b"', '[' * 300 + ']' * 300, r'"\ud83d\u"', '\ufeff1'),
]


def test_what_is_no_json_is_refused_with_the_place(again):
    for text in NO_JSON:
        assert re.match(r'error This is not JSON at byte \d+: ', again(text)), text


def test_what_json_cannot_say_is_an_error_before_anything_is_sent(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    for value in (
        '0/0',
        '1/0',
        'print',
        '{[1.5] = 1}',
        '{1, nil, 3}',
        '{1, a = 2}',
        '(function() local t = {}; t.t = t; return t end)()',
    ):
        said = lua(OPEN + TRY + f"print(try(rig.call, rig, 'EXPINIT', {{ {{ a = {value} }} }}))")
        assert said[0].startswith('JSON cannot express '), value
    assert server.saw == []


def test_values_arrive_at_the_service_as_they_were_given(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    lua(
        OPEN
        + """
        rig:call('EXPINIT', { { text = 'Mäuschen→😀 "\\\\\\n', yes = true, half = 1.5, none = bridge.null } })
        rig:call('EXPINIT', { empty = bridge.array {}, object = {}, list = { 1, 'b', { 2, 3 } } })
        rig:call('EXPINIT', { bridge.array { 1, 2 } })
        rig:call('EXPINIT', '2026-01-01_1_x')
        rig:call(bridge.messages.EXPINIT)
        rig:call('EXPINIT', bridge.array {})
        """
    )
    assert [arguments[0] for _, *arguments in server.saw[:4]] == [
        {'text': 'Mäuschen→😀 "\\\n', 'yes': True, 'half': 1.5, 'none': None},
        {'empty': [], 'object': {}, 'list': [1, 'b', [2, 3]]},
        [1, 2],
        '2026-01-01_1_x',
    ]
    assert len(server.saw) == 6 and server.saw[4] == server.saw[5]


def test_whole_numbers_of_64_bits_go_and_come_exactly(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    said = lua(
        OPEN + "local r = rig:call('EXPINIT', { { 9007199254740993LL, -9007199254740993LL, 9223372036854775807LL, "
        '-9223372036854775807LL - 1LL, 18446744073709551615ULL, 9007199254740991 } }); '
        'for _, number in ipairs(r.services[1].data.value) do print((tostring(number):gsub("U?LL$", ""))) end; '
        'print(type(r.services[1].data.value[6]), type(r.finished), bridge.decode("123456789012345678901"))'
    )
    assert server.saw == [[1, WHOLE]]
    assert said[:5] == [str(number) for number in WHOLE[:5]]
    assert said[6] == 'number\tnumber\t1.2345678901235e+20'


def test_a_rig_prints_what_it_is_and_a_choice_of_nothing_is_all_events(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    assert lua(
        OPEN + "print(rig); rig:subscribe(); rig:call('EXPINIT'); print(rig:next_event(20000).event); "
        'rig:subscribe(0); rig:close(); print(rig)'
    ) == ['iblbridge of rig0 "lua"', 'SERVICE_UP', 'iblbridge of rig0 "lua", closed']


def test_an_error_carries_code_name_sentence_and_response(lua, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    said = lua(
        OPEN
        + TRY
        + "local e = try(rig.call, rig, 'EXPSTART', '2026-01-01_1_x'); print(e.code, e.name, e.request); print(e); "
        'print(e.response.code, e.response.services[1].data.value[1], e.response.services[2].ok); '
        "print(try(rig.send, rig, 'PING', nil, { services = { 'Mäuschen→😀' } }))"
    )
    assert said[0] == '-8070\tE_PARTIAL\tnil'
    assert 'ephys' in said[1] and 'was told to refuse EXPSTART' in said[1]
    assert said[2] == '-8070\t2026-01-01_1_x\tfalse'
    assert 'has no service "Mäuschen→😀"' in said[3]
    assert 'no segment' in lua.fails("require('iblbridge').open('rig1', nil, 0)")


def test_an_entry_says_why_in_a_word_for_programs_and_what_its_service_says_it_does(lua, rig):
    running = rig(cameras=[], ephys=[])
    kill(running.children['ephys'].process)
    assert lua(
        OPEN + TRY + "local e = try(rig.call, rig, 'EXPINIT'); for _, service in ipairs(e.response.services) do "
        "print(service.name, '[' .. service.reason .. ']', service.status, bridge.statuses.INITIALIZED) end"
    ) == ['cameras\t[]\t10\t10', 'ephys\t[refused]\t-1\t10']


def test_a_response_that_is_larger_than_the_buffer_is_whole(lua, rig):
    rig(cameras=[], ephys=[])
    lua(
        OPEN + "local long = ('→'):rep(4000); for _, ask in ipairs { function() return rig:call('EXPSTART', long) end,"
        " function() return rig:wait(rig:send('EXPSTART', long .. 'x'), 9000) end } do local response = ask(); "
        'for _, service in ipairs(response.services) do assert(#service.data.value[1] >= 12000) end end'
    )


def test_the_library_is_the_one_that_is_named_and_else_the_one_beside_it(lua, tmp_path):
    code = "print(require('iblbridge').version())"
    shutil.copy(lua.place / 'iblbridge.lua', tmp_path)
    bare = Lua(tmp_path)
    assert re.search(r' \./libiblbridge\.so: .*Copy .*set IBLBRIDGE_LIBRARY \(not set\)', bare.fails(code))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IBLBRIDGE_LIBRARY', str(lua.place / 'libiblbridge.so'))
        assert bare(code) == ['100']
        for wrong in ('/nowhere.so', str(tmp_path), str(lua.place / 'iblbridge.h')):  # beside it is a good one
            patch.setenv('IBLBRIDGE_LIBRARY', wrong)
            said = lua.fails(code)
            begin = f'luajit: The library of iblbridge for {kit.BITS}-bit programs cannot be loaded: {wrong}: '
            assert said.startswith(begin), said
            assert 'IBLBRIDGE_LIBRARY names it: set that to' in said and 'copy the file to ./ and unset it.' in said


MISUSE = {
    "rig.call, rig, 'EXPINIT', nil, { service = 'ephys' }": 'no option service; there are services and timeout_ms',
    "rig.call, rig, 'EXPINIT', nil, { timeout = 3 }": 'no option timeout; there are services and timeout_ms',
    "rig.call, rig, 'EXPINIT', nil, { ttl_ms = 3 }": 'no option ttl_ms; there are services and timeout_ms',
    "rig.send, rig, 'EXPINIT', nil, { timeout_ms = 3 }": 'no option timeout_ms; there are services and ttl_ms',
    "rig.notify, rig, 'EXPINIT', nil, { 'ephys' }": 'no option 1; there are services and ttl_ms',
    "rig.call, rig, 'EXPINIT', nil, 'ephys'": "{ services = 'cameras,ephys', timeout_ms = 5000 }, not ephys",
    "rig.call, rig, 'EXPSTART', 'x', { note = 1 }": 'More than one argument of a message is a list.',
    "rig.call, rig, 'EXPINIT', { services = 'ephys' }": "rig:call('EXPINIT', nil, { services = ... })",
    "rig.send, rig, 'EXPINIT', { ttl_ms = 1, services = 'ephys' }": 'the only element of a list: { { ',
    "rig.notify, rig, 'EXPINIT', { timeout_ms = 1 }": 'The option timeout_ms stands in the place of the arguments',
    "rig.call, rig, 'EXPINIT', nil, { services = {} }": 'list of services is empty',
    "rig.call, rig, 'EXPINIT', nil, { services = ' ' }": 'A name in the list of services is empty',
    "rig.call, rig, 'EXPINIT', nil, { services = '' }": 'A name in the list of services is empty',
    "rig.call, rig, 'EXPINIT', nil, { services = { '' } }": 'A name in the list of services is empty',
    "rig.call, rig, 'EXPINIT', nil, { services = { 'cameras', 1 } }": 'name of a service is text without a NUL, not',
    "rig.call, rig, 'EXPINIT', nil, { services = 1 }": 'services is text without a NUL, not 1',
    "rig.call, rig, 'EXPINIT', nil, { services = '\\0ephys' }": 'services is text without a NUL',
    "rig.call, rig, 'EXPINIT', nil, { timeout_ms = 'x' }": 'number of milliseconds, 0 or more, not x',
    "rig.call, rig, 'EXPINIT', nil, { timeout_ms = -1 }": 'number of milliseconds, 0 or more, not -1',
    "rig.call, rig, 'EXPINIT', nil, { timeout_ms = 0/0 }": 'number of milliseconds, 0 or more, not ',
    "rig.send, rig, 'EXPINIT', nil, { ttl_ms = 'x' }": 'ttl_ms is a number of milliseconds, not x',
    "rig.call, rig, 'EXPINIT', print": 'JSON cannot express function',
    'rig.call, rig, 1.5': 'The number of a message must be an integer, not 1.5',
    'rig.subscribe, rig, 0/0': 'The number of a message must be an integer, not ',
    "rig.call, 'EXPINIT'": 'with a colon',
    'rig.worker_state': 'with a colon',
    'rig.close': 'with a colon',
    "rig.send, bridge, 'EXPINIT'": 'with a colon',
    'rig.wait, rig, nil': 'A request is the number that rig:send returned, not nil',
    'rig.wait, rig, 1, true': 'number of milliseconds, 0 or more, not true',
    "rig.cancel, rig, 'x'": 'A request is the number that rig:send returned, not x',
    'rig.withdraw, rig, 2^31': 'A request is the number that rig:send returned, not ',
    "rig.next_event, rig, '1'": 'number of milliseconds, 0 or more, not 1',
    'bridge.open, nil': 'The segment is text without a NUL, not nil',
    "bridge.open, 'rig0', 1": 'The client is text without a NUL, not 1',
    "bridge.open, 'rig0', nil, 'x'": 'number of milliseconds, 0 or more, not x',
    'bridge.error_text, nil': 'A code is a whole number, not nil',
    'bridge.error_text, 1': 'There is no code 1',
    'bridge.encode, { a = print }': 'JSON cannot express function',
    'bridge.decode, nil': 'JSON is a text, not nil',
}


def test_a_mistake_is_an_error_table_that_says_what_to_write_and_commands_nobody(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    tries = ''.join(f'e = try({words}); print(e.name, e)\n' for words in MISUSE)
    said = lua(OPEN + TRY + 'local e\n' + tries + "rig:call('EXPEND')")
    for (words, sentence), line in zip(MISUSE.items(), said, strict=True):
        assert line.startswith('E_ARGUMENT\t') and sentence in line, (words, line)
    assert [number for number, *_ in server.saw] == [4]  # EXPEND


def test_an_object_that_looks_like_options_can_be_sent_on_purpose(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    lua(
        OPEN + "rig:call('EXPINIT', { { services = 'ephys' } }); rig:call('EXPINIT', { services = 'ephys', a = 1 }); "
        "rig:call('EXPINIT', {}, { services = { 'cameras' }, timeout_ms = 5000 })"
    )
    sent = [arguments[0] for _, *arguments in server.saw]
    assert sent == [{'services': 'ephys'}, {'services': 'ephys', 'a': 1}, {}]


def test_a_wait_that_ends_without_a_response_leaves_the_request_open(lua, rig):
    rig(cameras=['--delay', '1'])
    assert lua(
        OPEN + TRY + "local e = try(rig.call, rig, 'EXPINIT', nil, { timeout_ms = 250 }); print(e.name, e.response); "
        'print(rig:wait(e.request).message); print(try(rig.wait, rig, e.request).name); '
        "local k = rig:send('EXPSTATUS'); e = try(rig.wait, rig, k, 0); print(e.name, e.request == k); rig:cancel(k); "
        'e = try(rig.wait, rig, k); print(e.name, e.request)'
    ) == ['E_PENDING\tnil', 'EXPINIT', 'E_REQUEST', 'E_TIMEOUT\ttrue', 'E_REQUEST\tnil']


def test_only_what_no_worker_has_accepted_is_withdrawn(lua, rig):
    rig(cameras=['--delay', '2'])
    assert lua(
        OPEN + TRY + "local k = rig:send('EXPINIT'); print(try(rig.wait, rig, k, 500).name); "
        "print(rig:withdraw(rig:send('EXPEND')), rig:withdraw(k), rig:wait(k).message)"
    ) == ['E_TIMEOUT', 'true\tfalse\tEXPINIT']


def test_a_call_that_no_worker_has_accepted_in_time_is_withdrawn(lua, rig):
    rig(cameras=['--delay', '2'])
    assert lua(
        OPEN + TRY + "local k = rig:send('EXPINIT'); "
        "local e = try(rig.call, rig, 'EXPSTART', 'x', { timeout_ms = 250 }); print(e.name, e.request); "
        'print(rig.last_request, rig.last_response, rig:wait(k).message, rig.last_request == k)'
    ) == ['E_NOT_SENT\tnil', 'nil\tnil\tEXPINIT\ttrue']


def test_the_rig_keeps_the_latest_request_and_response(lua, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    assert lua(
        OPEN + TRY + "print(rig.last_request, rig.last_response); local r = rig:call('PING'); "
        "print(rig.last_request == r.request, rig.last_response == r); try(rig.call, rig, 'EXPSTART', 'x'); "
        "print(rig.last_response.services[1].ok, rig.last_response.code); local k = rig:send('PING'); "
        "print(rig.last_request == k, rig.last_response); rig:notify('PING'); print(rig.last_request)"
    ) == ['nil\tnil', 'true\ttrue', 'true\t-8070', 'true\tnil', 'nil']


def test_ctrl_c_ends_a_call_and_its_request_is_not_lost(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    server.answers[1] = lambda data: None  # echoes, and never replies
    code = """
    print('go')
    io.flush()
    local fine, result = pcall(rig.call, rig, 'EXPINIT', nil, { timeout_ms = math.huge })
    print(fine, type(result), rig.last_response)
    print(try(rig.wait, rig, rig.last_request, 0).name, rig:cancel(rig.last_request), rig:call('PING').message)
    """
    with lua.started('-e', OPEN + TRY + code) as process:
        assert process.stdout.readline() == 'go\n'
        eventually(lambda: server.saw)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[0].splitlines()
        assert time.monotonic() - began < 3
    assert said == ['false\tstring\tnil', 'E_TIMEOUT\tfalse\tPING']


def test_ctrl_c_while_a_command_is_sent_does_not_lose_its_request(lua, serve, server, tmp_path, monkeypatch):
    """Beside other programs there was time for it between the call of C and the line that kept the number."""
    serve('rig0', {'cameras': server.uri})
    for name, value in interrupted.build(lua.place, tmp_path).items():
        monkeypatch.setenv(name, value)
    for method in ('call', 'send'):
        code = f"local fine, why = pcall(rig.{method}, rig, 'EXPINIT'); print(fine, type(why)); "
        assert lua(OPEN + code + 'print(rig:wait(rig.last_request).message)') == ['false\tstring', 'EXPINIT']


def test_ctrl_c_in_the_example_stops_the_services(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    server.answers[2] = lambda data: None  # EXPSTART: echoes, and never replies
    with lua.started('experiment.lua', 'rig0') as process:
        eventually(lambda: any(number == 2 for number, *_ in server.saw))
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
    assert process.returncode == 1 and 'interrupted!' in errors
    assert said.splitlines()[-2:] == ['EXPINTERRUPT: done', '  cameras: answered']


def test_a_worker_that_dies_ends_the_wait_and_the_next_one_answers(lua, rig):
    services = rig(cameras=['--delay', '30'])
    worker = services.children['worker']
    code = (
        "local k = rig:send('EXPINIT'); local e = try(rig.wait, rig, k, math.huge); print(e.name, e.request == k); "
        'io.flush(); io.read(); print(try(rig.wait, rig, k).name)'
    )
    with lua.started('-e', OPEN + TRY + code) as process:
        eventually(lambda: any('EXPINIT' in line for line in services.children['cameras'].output))
        worker.process.kill()
        assert process.stdout.readline() == 'E_NO_WORKER\ttrue\n'
        address = worker.process.args[worker.process.args.index('--service') + 1]
        services.children['worker'] = Child('worker', 'serve', '--segment', 'rig0', '--service', address, '--remove')
        eventually(lambda: services.children['worker'].ready, 60)  # a start of Python
        assert process.communicate('\n', timeout=20)[0] == 'E_OUTCOME_UNKNOWN\n'


def test_a_worker_that_dies_during_a_call_leaves_the_request_open(lua, rig):
    services = rig(cameras=['--delay', '30'])
    code = "local e = try(rig.call, rig, 'EXPINIT'); print(e.name, e.request == rig.last_request, e)"
    with lua.started('-e', OPEN + TRY + code) as process:
        eventually(lambda: any('EXPINIT' in line for line in services.children['cameras'].output))
        services.children['worker'].process.kill()
        assert process.stdout.readline().startswith('E_PENDING\ttrue\tThe worker died with the command.')


def test_ctrl_c_ends_a_wait_also_in_a_hot_loop(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    server.answers[1] = lambda data: None  # echoes, and never replies
    code = """
    local k = rig:send('EXPINIT')
    pcall(rig.wait, rig, k, 300)
    jit.opt.start('hotloop=2', 'hotexit=2')
    print('go')
    io.flush()
    rig:wait(k, math.huge)
    """
    with lua.started('-e', OPEN + code) as process:
        assert process.stdout.readline() == 'go\n'
        time.sleep(1.5)  # not for a condition, but so that the loop is one that would have been compiled
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert 'interrupted!' in process.communicate(timeout=20)[1]
        assert time.monotonic() - began < 3 and process.returncode == 1


def test_without_a_worker_there_is_a_warning_and_what_is_queued_can_be_withdrawn(lua, serve, server):
    serve('rig0', {'cameras': server.uri}).end_of_test()
    said = lua(
        OPEN.replace('2000', '100')
        + TRY
        + """
        print(status, rig:last_error())
        local k, status = rig:send('EXPINIT')
        print(status, rig:cancel(k), rig:notify('EXPINIT'), rig:worker_state().alive)
        print(try(rig.next_event, rig, 5000).name)
        local e = try(rig.call, rig, 'EXPINIT')
        print(e.name, e.request, rig.last_request, e.message:find('nothing was sent') ~= nil)
        """
    )
    assert said[0].startswith('5001\tNo worker serves')
    assert said[1:] == ['5001\ttrue\t5001\tfalse', 'E_NO_WORKER', 'E_NO_WORKER\tnil\tnil\ttrue']


def test_events_are_tables_and_none_is_nil(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    assert lua(
        OPEN + TRY + "rig:subscribe('WORKER_RESTARTED', bridge.messages.SERVICE_UP); rig:call('EXPINIT'); "
        'local event = rig:next_event(5000); print(event.event, event.service, rig:next_event(0)); '
        "print(try(rig.subscribe, rig, 'PING').name, rig:subscribe())"
    ) == ['SERVICE_UP\tcameras\tnil', 'E_MESSAGE']


def test_no_slot_is_lost_by_programs_that_do_not_close(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    assert lua(
        TRY + "local bridge = require 'iblbridge'; local rig; for i = 1, 40 do rig = nil; collectgarbage(); "
        "rig = bridge.open('rig0', 'c' .. i, 5000); rig:call('PING') end; "
        "rig:close(); rig:close(); print(try(rig.call, rig, 'PING').name)"
    ) == ['E_HANDLE']
    eventually(lambda: not doctor.inspect('rig0').slots)


def test_what_is_misspelt_is_an_error_and_the_small_functions_work(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    said = lua(
        OPEN + TRY + "local e = try(rig.call, rig, 'EXPSTRAT'); print(e.name, e); print(bridge.error_text(-8070)); "
        'print(math.abs(bridge.clock_ns() - rig:call(4096).finished) < 1e9)'
    )
    assert said[0].startswith('E_MESSAGE\tThere is no message EXPSTRAT; there are EXPINIT, EXPSTART, EXPEND, ')
    assert said[1].startswith('Some services did') and said[2] == 'true'


def test_what_the_guide_shows_runs_and_its_handler_says_what_happened(lua, serve, server):
    serve('rig0', {'cameras': server.uri})
    commanding = (lua.place / 'README.md').read_text(encoding='utf-8').partition(SERVING)[0]
    start, handler = re.findall(r'^```lua\n(.*?)^```', commanding, re.DOTALL | re.MULTILINE)
    assert lua(start) == ['cameras\tanswered']
    assert lua("rig = require('iblbridge').open('rig0')\n" + handler) == []
    server.answers[2] = lambda data: None  # EXPSTART: echoes, and never replies
    server.saw.clear()
    with lua.started('-e', "rig = require('iblbridge').open('rig0')\n" + handler) as process:
        eventually(lambda: server.saw)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == '' and said.endswith('interrupted!\n')
    assert [number for number, *_ in server.saw] == [2, 16]  # EXPSTART, EXPINTERRUPT


def test_every_name_in_the_guide_is_there(lua):
    code = (lua.place / 'iblbridge.lua').read_text(encoding='utf-8')
    there = set(re.findall(r'^(?:local )?(?:function )?(?:bridge|Rig)[.:](\w+)', code, re.MULTILINE))
    there |= set(re.findall(r'\brig\.(last_\w+)', code))
    used = set(re.findall(r'\b(?:rig|bridge)[.:](\w+)', (lua.place / 'README.md').read_text(encoding='utf-8'))) - {
        'lua'
    }
    assert len(used) > 10 and used <= there

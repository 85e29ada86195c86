"""MATLAB and Octave: iblbridge.m under Octave, through the MEX file and, as MATLAB does, through calllib.

There is no MATLAB here. The folder ``matlab`` has a loadlibrary and a calllib that take and return what MATLAB's are
documented to, so that this branch of the class is run, too; every test runs with both.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import interrupted
import pytest
from guides import commands, environment, require, run
from peers import eventually
from processes import kill
from scenarios import WHOLE

from bridge import kit
from bridge.auxiliaries import Auxiliaries
from bridge.cli.demo.children import Child
from bridge.config import ListenerConfig
from bridge.segment import inspection as doctor

STUBS = Path(__file__).parent / 'matlab'
OCTAVE = ('octave-cli', '--quiet', '--no-history', '--no-init-file')
OPEN = "rig = iblbridge('rig0', 'octave'); "


class Octave:
    """Runs code in a folder that has iblbridge.m."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fails(self, code: str) -> tuple[str, str]:
        """Run code that ends with an error; return what it printed and the error."""
        done = run([*OCTAVE, '--eval', code], self.place)
        assert done.returncode == 1, done.stdout
        return done.stdout, done.stderr

    def __call__(self, code: str) -> list[str]:
        """Run code and return the lines that it printed."""
        done = run([*OCTAVE, '--eval', code], self.place)
        assert (done.returncode, done.stderr) == (0, ''), done.stdout + done.stderr
        return done.stdout.splitlines()

    @contextmanager
    def session(self) -> Iterator[subprocess.Popen[str]]:
        """Give a process that is told code on its standard input, and says what it does on its standard output."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            OCTAVE, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=self.place, env=environment()
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def say(process: subprocess.Popen[str], code: str) -> None:
    """Tell code to a session."""
    assert process.stdin is not None
    process.stdin.write(f'{code}; fflush(stdout);\n')
    process.stdin.flush()


def is_asleep(process: subprocess.Popen[str]) -> bool:
    """Tell whether the main thread of a session waits for something."""
    return Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[0] == 'S'


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line of a session."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(scope='session')
def through(kit_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Octave]:
    """Return a function that gives Octave with the MEX file or with calllib."""
    places: dict[str, Path] = {}

    def give(way: str) -> Octave:
        require('octave-cli', 'mkoctfile')
        if not places:
            built = kit_of('matlab')
            emulated = tmp_path_factory.mktemp('matlab') / 'kit'
            kit.write('matlab', emulated)
            for stub in STUBS.glob('*.m'):
                shutil.copy(stub, emulated)
            shutil.copy(built / 'iblbridge_mex.mex', emulated / 'calllib_gateway.mex')
            places.update(mex=built, calllib=emulated)
        return Octave(places[way])

    return give


@pytest.fixture(params=['mex', 'calllib'])
def octave(request: pytest.FixtureRequest, through: Callable[[str], Octave]) -> Octave:
    """Octave, through each way into the library."""
    return through(request.param)


def test_values_arrive_at_the_service_as_they_were_given(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    octave(
        OPEN + "rig.call('EXPINIT', struct('text', 'Mäuschen→😀 \"\\', 'yes', true, 'number', 1.5)); "
        "rig.call('EXPINIT', {struct('empty', [], 'list', {{1, 'b', [2 3]}}, 'deep', struct('one', {{4}}))}); "
        "rig.call('EXPSTART', {'2026-01-01_1_x', struct()}); rig.call('EXPSTART', '2026-01-01_2_y'); "
        "rig.call('EXPINIT', containers.Map('a b', 'c')); "
        "rig.call('EXPINIT', [1 2]); rig.call('EXPINIT'); rig.call('EXPINIT', {}); rig.call(1, []);"
    )
    first = {'text': 'Mäuschen→😀 "\\', 'yes': True, 'number': 1.5}
    assert [args[:1] for _, *args in server.saw[:2]] == [
        [first],
        [{'empty': [], 'list': [1, 'b', [2, 3]], 'deep': {'one': [4]}}],
    ]
    assert [args[0] for _, *args in server.saw[2:4]] == ['2026-01-01_1_x', '2026-01-01_2_y']
    assert [args[0] for _, *args in server.saw[4:6]] == [{'a b': 'c'}, [1, 2]]
    assert len(server.saw) == 9 and server.saw[6] == server.saw[7] == server.saw[8]


def test_what_json_cannot_say_is_refused_and_named_and_nothing_is_sent(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    wrong = {
        'NaN': ['NaN', '{1, {NaN}}', '[1 NaN]', "struct('a', single(NaN))", "containers.Map('a', NaN)"],
        'Inf': ['Inf', '-Inf', "struct('a', {{1, Inf}})"],
        'a complex number': ['1+2i', 'complex(1, 0)'],
    }
    for what, values in wrong.items():
        for value in values:
            said = octave(
                OPEN + f"try, rig.call('EXPINIT', {{{value}}}); catch err, disp(err.identifier), disp(err.message); end"
            )
            assert said == ['iblbridge:ARGUMENT', f'JSON cannot express {what}; send text or a number instead.'], value
    assert server.saw == []


def test_whole_numbers_of_64_bits_go_and_come_exactly(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    said = octave(
        OPEN + 'big = int64(9007199254740992) + 1; '
        "r = rig.call('EXPINIT', {{big, -big, intmax('int64'), intmin('int64'), intmax('uint64'), 9007199254740991}}); "
        "for i = 1:5, printf('%s ', class(r.services.data.value{i})); disp(r.services.data.value{i}); end; "
        "printf('%s %d\\n', class(r.services.data.value{6}), r.services.data.value{6}); "
        "disp([class(r.finished), ' ', class(r.services.sent)]); "
        "m = struct('text', '12345678901234567890', 'row', [big, 1], 'square', [big, 1; 2, big], 'small', int64(5)); "
        "r = rig.call('EXPINIT', m); "
        'disp(r.services.data.value.text); '
        'disp(isequal(r.services.data.value.row, {big; 1}));'
    )
    assert server.saw[0] == [1, WHOLE]
    assert server.saw[1][1] == {
        'text': '12345678901234567890',
        'row': [WHOLE[0], 1],
        'square': [[WHOLE[0], 1], [2, WHOLE[0]]],
        'small': 5,
    }
    kinds = ['int64'] * 4 + ['uint64', 'double']
    assert said[:6] == [f'{kind} {number}' for kind, number in zip(kinds, WHOLE, strict=True)]
    assert said[6:] == ['double double', '12345678901234567890', '1']


def test_an_error_has_an_identifier_a_sentence_and_the_response(octave, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
    assert octave(
        OPEN + "try, rig.call('EXPSTART', '2026-01-01_1_x'); catch err, disp(err.identifier); end; "
        "disp(any(strfind(err.message, 'ephys')) && any(strfind(err.message, 'was told to refuse EXPSTART'))); "
        'disp([iblbridge.code_of(err), rig.last_status, rig.last_response.code, iblbridge.codes.E_PARTIAL]); '
        'good = rig.last_response.services([rig.last_response.services.ok]); disp(good.data.value{1}); '
        "try, rig.send('EXPINIT', {}, 'services', 'x'); catch, disp(isempty(rig.last_response)); end; "
        "rig.call('EXPEND'); disp([rig.last_status, iblbridge.code_of(struct('identifier', 'a:b'))]);"
    ) == [
        'iblbridge:PARTIAL',
        '1',
        '  -8070  -8070  -8070  -8070',
        '2026-01-01_1_x',
        '1',
        '   0   0',
    ]


def test_an_entry_says_why_in_a_word_for_programs_and_what_its_service_says_it_does(octave, rig):
    running = rig(cameras=[], ephys=[])
    kill(running.children['ephys'].process)
    assert octave(
        OPEN + "try, rig.call('EXPINIT'); catch, end; s = rig.last_response.services; "
        "printf('[%s] [%s]\\n', s.reason); disp([s.status] == [iblbridge.statuses.INITIALIZED, -1]);"
    ) == ['[] [refused]', '  1  1']


def test_a_service_that_says_it_does_something_else_is_a_warning(octave, rig):
    rig(cameras=[])
    assert octave(
        OPEN + "rig.call('EXPSTART', '2026-01-01_1_x'); r = rig.call('EXPINIT'); disp(r.services.reason); "
        'disp([r.services.ok, r.services.status == iblbridge.statuses.RUNNING, '
        'rig.last_status == iblbridge.codes.W_STATUS]);'
    ) == ['status', '  0  1  1']


def test_the_sentence_of_an_error_has_its_characters_back(octave, serve):
    serve('rig0', {'cameras': 'udp://127.0.0.1:9'})
    said = octave(OPEN + "try, rig.call('PING', {}, 'services', {'Mäuschen→😀'}); catch err, disp(err.message); end")
    assert len(said) == 1 and 'has no service "Mäuschen→😀"' in said[0]


@pytest.mark.parametrize('names', [['cameras:left'], ['cameras:left', 'ephys']])
def test_services_are_a_struct_array_however_many_there_are(octave, serve, server, names):
    serve('rig0', dict.fromkeys(names, server.uri), shared_addresses=True)
    shape = 'disp(size(r.services)); disp(class(r.services(1).data)); disp({r.services.name}{1}); '
    said = octave(
        OPEN + f"r = rig.call('EXPINFO', 20, 'services', 'cameras:left'); {shape}"
        f"r = rig.call('SERVICES'); {shape}"
        "try, rig.call('EXPSTART'), catch err, r = rig.last_response; end; "
        "disp(size(r.services)); for s = r.services, disp('none'), end; disp(isfield(r.services, 'data')); "
    )
    assert said == [
        *['   1   1', 'struct', 'cameras:left'],
        *[f'   1   {len(names)}', 'struct', 'cameras:left'],
        *['   1   0', '1'],
    ]


def test_a_response_that_is_larger_than_the_buffer_is_whole(octave, rig):
    rig(cameras=[], ephys=[])
    assert octave(
        OPEN + "r = rig.call('EXPSTART', repmat('→', 1, 4000)); "
        'disp(all(arrayfun(@(s) numel(s.data.value{1}) == 12000, r.services)));'
    ) == ['1']


@pytest.fixture
def bare(through, tmp_path) -> Octave:
    """Octave in a copy of the kit, to take things from."""
    shutil.copytree(through('mex').place, tmp_path / 'kit')
    return Octave(tmp_path / 'kit')


def test_the_library_is_the_one_that_is_named_and_else_the_one_beside_it(bare, through):
    code = "setenv('IBLBRIDGE_LIBRARY', '{}'); disp(iblbridge.version());"
    good = through('mex').place / 'libiblbridge.so'
    for wrong, what in (('/nowhere.so', 'is not there'), (bare.place, 'is a folder')):  # beside it is a good one
        said = bare.fails(code.format(wrong))[1]
        begin = f'error: The library of iblbridge for {kit.BITS}-bit programs cannot be loaded: {wrong} {what}. '
        assert said.startswith(begin)
        assert 'IBLBRIDGE_LIBRARY names it: set that to the absolute path' in said
        assert f'copy the file to {bare.place} and unset it.' in said
    header = bare.place / 'iblbridge.h'
    said = bare(
        f"setenv('IBLBRIDGE_LIBRARY', '{header}'); try, iblbridge.version(), catch err, disp(err.message); end; "
        + code.format(good)
    )
    assert f'The library of iblbridge for {kit.BITS}-bit programs cannot be loaded: ' in said[0]
    assert str(header) in said[0] and said[1:] == ['100']
    bare.place.joinpath('libiblbridge.so').unlink()
    said = bare.fails("iblbridge('rig0')")[1]
    assert f'{bare.place / "libiblbridge.so"} is not there. Copy libiblbridge.so there, or set' in said
    assert 'IBLBRIDGE_LIBRARY (not set)' in said
    assert bare(code.format(good)) == ['100']


def test_without_the_mex_file_octave_says_how_to_make_it(bare):
    bare.place.joinpath('iblbridge_mex.mex').unlink()
    line = f'iblbridge_mex is not compiled. In {bare.place}: {commands(bare.place)[0]}'
    assert bare.fails("iblbridge('rig0')")[1].startswith(f'error: {line}\n')
    assert bare.fails("exit(experiment('rig0'))") == ('', f'{line}\n')


def test_a_mistake_is_an_error_before_anything_is_sent(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    mistakes = [
        *(f"rig.call('EXPINIT', {{}}, 'timeout_ms', {wrong})" for wrong in ("'x'", '-1', 'NaN', '[]', '[1 2]')),
        *("rig.send('EXPINIT', {}, 'ttl_ms', 'x')", "rig.notify('EXPINIT', {}, 'ttl_ms', NaN)"),
        *("rig.wait(1, 'x')", 'rig.wait(1, -1)', 'rig.next_event(-1)', "iblbridge('rig0', 'other', -1)"),
        *(f"rig.call('EXPINIT', {{}}, 'services', {wrong})" for wrong in ('{}', "{''}", "{'cameras', ' '}")),
        "rig.call('EXPINIT', 'services', 'cameras')",
    ]
    tries = ''.join(f"try, {code}; disp('done'); catch err, disp(err.identifier); end; " for code in mistakes)
    said = octave(OPEN + tries + "try, rig.call(1.5); catch err, disp(err.identifier); end; rig.call('EXPEND');")
    assert said == ['iblbridge:ARGUMENT'] * len(mistakes) + ['iblbridge:MESSAGE']
    assert [number for number, *_ in server.saw] == [4]  # EXPEND


def test_the_number_of_a_code_is_found_by_every_name_of_it(through):
    assert through('mex')(
        "texts = {'TIMEOUT', 'E_TIMEOUT', 'iblbridge:TIMEOUT', 'W_OPTIONAL', 'a:TIMEOUT', ''}; "
        'disp(cellfun(@iblbridge.code_of, texts)); '
        "try, iblbridge.code_of('TIMOUT'); catch err, disp(err.message); end"
    ) == ['  -8050  -8050  -8050   5002      0      0', 'There is no code TIMOUT; see iblbridge.codes.']


def test_what_is_inside_is_no_method(through):
    # Octave shows private and hidden methods, too: these are left, for they change the rig.
    said = through('mex')("disp(strjoin(sort(methods('iblbridge'))', ' '))")[0].split()
    inside = {'await', 'check', 'delete', 'end_command', 'finish', 'known', 'post', 'take_back'}
    outside = {'abandon', 'call', 'cancel', 'close', 'notify', 'send', 'serve', 'subscribe', 'tell', 'wait', 'withdraw'}
    outside |= {'next_command'}
    outside |= {'iblbridge', 'next_event', 'worker_state', 'last_error', 'clock_ns', 'code_of', 'error_text', 'version'}
    assert set(said) == inside | outside


def test_help_tells_of_every_method_but_of_those_that_the_guide_names(through):
    octave = through('mex')
    guide = (octave.place / 'README.md').read_text(encoding='utf-8')
    left = re.search(r'in Octave not for `(\w+)` and `(\w+)`', guide)
    assert left and set(left.groups()) == {'close', 'version'}
    names = ['abandon', 'call', 'cancel', 'notify', 'send', 'subscribe', 'wait', 'withdraw', 'next_event']
    names += ['serve', 'next_command', 'tell']
    names += ['worker_state', 'last_error', 'clock_ns', 'code_of', 'error_text', *left.groups()]
    listed = ', '.join(map(repr, names))
    said = octave(
        f"for name = {{{listed}}}, text = evalc(['help iblbridge.', name{{1}}]); "
        "disp(any(strfind(text, ['.', upper(name{1}), '('])) && isempty(strfind(text, '/usr/'))); end; "
        "disp(numel(evalc('iblbridge.codes')) > 500); disp(any(strfind(evalc('help iblbridge'), 'last_response')))"
    )
    assert said == ['1'] * (len(names) - 2) + ['0', '0', '1', '1']


def test_a_call_that_no_worker_has_accepted_in_time_is_withdrawn(octave, rig):
    rig(cameras=['--delay', '2'])
    assert octave(
        OPEN + "k = rig.send('EXPINIT'); try, rig.call('EXPSTART', 'x', 'timeout_ms', 250); "
        'catch err, disp(err.identifier); end; disp(rig.last_request); disp(rig.wait(k).message); '
        "k = rig.send('EXPINIT'); try, rig.wait(k, 500); catch, end; disp(rig.withdraw(rig.send('EXPEND'))); "
        'disp(rig.withdraw(k)); disp(rig.wait(k).message)'
    ) == ['iblbridge:NOT_SENT', '0', 'EXPINIT', '1', '0', 'EXPINIT']


def test_a_wait_that_ends_without_a_response_leaves_the_request_open(octave, rig):
    rig(cameras=['--delay', '1'])
    assert octave(
        OPEN + "try, rig.call('EXPINIT', {}, 'timeout_ms', 250); catch err, disp(err.identifier); end; "
        'disp(isempty(rig.last_response)); r = rig.wait(rig.last_request); disp(r.message); '
        'try, rig.wait(r.request); catch err, disp(err.identifier); end; '
        "k = rig.send('EXPSTATUS'); try, rig.wait(k, 0); catch err, disp(err.identifier); end; "
        'rig.cancel(k); try, rig.wait(k); catch err, disp(err.identifier); end;'
    ) == ['iblbridge:PENDING', '1', 'EXPINIT', 'iblbridge:REQUEST', 'iblbridge:TIMEOUT', 'iblbridge:REQUEST']


def test_a_worker_that_dies_ends_the_wait_and_the_next_one_answers(octave, rig):
    services = rig(cameras=['--delay', '30'])
    worker = services.children['worker']
    with octave.session() as process:
        say(process, OPEN + "k = rig.send('EXPINIT'); disp(k);")
        request = hear(process)
        eventually(lambda: any('EXPINIT' in line for line in services.children['cameras'].output))
        worker.process.kill()
        say(process, 'try, rig.wait(k, Inf); catch err, disp(err.identifier); end; disp(rig.last_request)')
        assert [hear(process), hear(process)] == ['iblbridge:NO_WORKER', request]
        address = worker.process.args[worker.process.args.index('--service') + 1]
        services.children['worker'] = Child('worker', 'serve', '--segment', 'rig0', '--service', address, '--remove')
        eventually(lambda: services.children['worker'].ready, 60)  # a start of Python
        say(process, 'try, rig.wait(k); catch err, disp(err.identifier); end')
        assert hear(process) == 'iblbridge:OUTCOME_UNKNOWN'


def test_a_worker_that_dies_during_a_call_leaves_the_request_open(octave, rig):
    services = rig(cameras=['--delay', '30'])
    with octave.session() as process:
        code = "try, rig.call('EXPINIT'); catch err, disp(err.identifier); disp(err.message); end; "
        say(process, OPEN + code + 'disp(rig.last_request > 0)')
        eventually(lambda: any('EXPINIT' in line for line in services.children['cameras'].output))
        services.children['worker'].process.kill()
        assert hear(process) == 'iblbridge:PENDING'
        assert hear(process).startswith('The worker died with the command.') and hear(process) == '1'


def test_ctrl_c_ends_a_wait_and_the_rig_is_still_there(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    server.answers[1] = lambda data: None  # echoes, and never replies
    with octave.session() as process:
        code = "rig.call('EXPINIT', {}, 'timeout_ms', Inf); disp('not reached')"
        say(process, f"{OPEN} disp('go'); fflush(stdout); {code}")
        assert hear(process) == 'go'
        eventually(lambda: server.saw)
        eventually(lambda: is_asleep(process))  # by now it waits; before, it may still have to note what it sent
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        say(process, "disp(rig.last_request > 0); r = rig.call('PING'); disp(r.message)")
        assert [hear(process), hear(process)] == ['1', 'PING']
        assert time.monotonic() - began < 5


def test_after_ctrl_c_while_a_command_is_sent_nobody_says_that_there_is_none(
    through, serve, server, tmp_path, monkeypatch
):
    """Its number was 0, as if nothing had been sent, and it could have been sent twice."""
    octave = through('mex')
    serve('rig0', {'cameras': server.uri})
    for name, value in interrupted.build(octave.place, tmp_path).items():
        monkeypatch.setenv(name, value)
    with octave.session() as process:
        say(process, f"{OPEN} rig.call('EXPINIT', {{}}, 'timeout_ms', Inf); disp('not reached')")
        eventually(lambda: server.saw)
        for method in ('wait', 'cancel', 'withdraw'):
            said = 'disp(err.identifier); disp(err.message); disp(rig.last_status == iblbridge.codes.E_OUTCOME_UNKNOWN)'
            say(process, f'disp(rig.last_request); try, rig.{method}(rig.last_request); catch err, {said}; end')
            assert [hear(process), hear(process)] == ['NaN', 'iblbridge:OUTCOME_UNKNOWN']
            assert hear(process).endswith('Ask EXPSTATUS before you repeat it.') and hear(process) == '1'
        say(process, "rig.notify('EXPEND'); disp(rig.last_request)")
        assert hear(process) == '0'


def test_without_a_worker_there_is_a_warning_and_what_is_queued_can_be_withdrawn(octave, serve, server):
    serve('rig0', {'cameras': server.uri}).end_of_test()
    said = octave(
        "rig = iblbridge('rig0', 'octave', 300); disp(rig.last_status == iblbridge.codes.W_NO_WORKER); "
        "disp(rig.last_error()); k = rig.send('EXPINIT'); disp(rig.last_status); disp(rig.cancel(k)); "
        'state = rig.worker_state(); disp(state.alive); '
        "rig.notify('EXPINIT'); try, rig.next_event(5000); catch err, disp(err.identifier); end; "
        "try, rig.call('EXPINIT'); catch err, disp(err.identifier); disp(rig.last_request); end"
    )
    assert (
        said[0] == '1'
        and said[1].startswith('No worker serves')
        and said[2:] == ['5001', '1', '0', 'iblbridge:NO_WORKER', 'iblbridge:NO_WORKER', '0']
    )


def test_it_waits_for_a_worker_that_comes_later(octave, serve, server):
    serve('rig0', {'cameras': server.uri}).end_of_test()
    with octave.session() as process:
        say(process, "disp('go'); fflush(stdout); rig = iblbridge('rig0', 'octave', 30000); disp(rig.last_status)")
        assert hear(process) == 'go'
        eventually(lambda: any(slot.client == 'octave' and slot.alive for slot in doctor.inspect('rig0').slots))
        serve('rig0', {'cameras': server.uri})
        assert hear(process) == '0'


def test_events_are_structs_and_none_is_empty(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    with octave.session() as process:
        say(
            process,
            OPEN + "rig.subscribe('WORKER_RESTARTED', iblbridge.messages.SERVICE_UP); rig.call('EXPINIT'); disp('go')",
        )
        assert hear(process) == 'go'
        eventually(lambda: server.saw)
        say(process, 'e = rig.next_event(5000); disp(e.event); disp(e.service); disp(isempty(rig.next_event(0)))')
        assert [hear(process) for _ in range(3)] == ['SERVICE_UP', 'cameras', '1']
        say(
            process,
            "try, rig.subscribe('PING'); catch err, disp(err.identifier); end; rig.subscribe(); disp(rig.last_status)",
        )
        assert [hear(process), hear(process)] == ['iblbridge:MESSAGE', '0']


def test_no_slot_is_lost_by_programs_that_do_not_close(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    assert octave(
        "for i = 1:40, rig = iblbridge('rig0', sprintf('c%d', i), 5000); rig.call('PING'); end; "
        "clear rig; for i = 1:40, rig = iblbridge('rig0', sprintf('c%d', i), 5000); end; "
        'rig.close(); rig.close(); try, rig.call(1); catch err, disp(err.identifier); end'
    ) == ['iblbridge:HANDLE']


def test_what_is_misspelt_is_an_error_that_lists_what_there_is(octave, serve, server):
    serve('rig0', {'cameras': server.uri})
    said = octave(
        OPEN + "try, rig.call('EXPSTRAT'); catch err, disp(err.identifier); disp(err.message); end; "
        "try, rig.call('EXPINIT', {}, 'timeout', 1); catch err, disp(err.identifier); disp(err.message); end; "
        'disp(iblbridge.error_text(-8070)); try, iblbridge.error_text(1); catch err, disp(err.message); end; '
        'disp(abs(iblbridge.clock_ns() - rig.call(4096).finished) < 1e9);'
    )
    assert said[0] == 'iblbridge:MESSAGE' and 'EXPSTRAT' in said[1] and 'EXPSTART' in said[1]
    assert said[2] == 'iblbridge:ARGUMENT' and said[3].endswith('services, timeout_ms.')
    assert said[4].startswith('Some services did') and said[5:] == ['There is no code 1.', '1']
    assert server.saw == []


def test_the_mex_file_refuses_what_is_not_as_agreed(through):
    octave = through('mex')
    library = octave.place / 'libiblbridge.so'
    refused = {
        "'iblb_nothing'": 'There is no function iblb_nothing.',
        "'iblb_close'": 'iblb_close has more inputs than 0.',
        "'iblb_close', 1, 2": 'iblb_close has 1 inputs, not 2.',
        "'iblb_close', 1.5": 'Input 1 of iblb_close is not a whole number of 32 bits.',
        "'iblb_close', 2^31": 'Input 1 of iblb_close is not a whole number of 32 bits.',
        "'iblb_close', 'a'": 'Input 1 of iblb_close is not a whole number of 32 bits.',
        "'iblb_open', [65; 66], '', 1": 'Input 1 of iblb_open is not a text of one row.',
        "'iblb_open', ['a'; 'b'], '', 1": 'Input 1 of iblb_open is not a text of one row.',
        "'iblb_open', char([97 0 98]), '', 1": 'Input 1 of iblb_open has a NUL in it.',
        "'iblb_last_error', 0, 0": 'Input 2 of iblb_last_error is not a capacity.',
    }
    calls = (f"try, iblbridge_mex('{library}', {inputs}); catch err, disp(err.message); end; " for inputs in refused)
    assert octave(''.join(calls)) == [f'iblbridge_mex: {sentence}' for sentence in refused.values()]


def test_the_example_says_the_same_through_calllib(through, rig):
    rig(cameras=[], ephys=['--refuse', 'EXPEND'])
    said = [run([*OCTAVE, 'run_experiment.m', 'rig0'], through(way).place) for way in ('mex', 'calllib')]
    assert said[0].returncode == said[1].returncode == 1
    assert said[0].stdout == said[1].stdout and 'EXPEND: failed (-8070)' in said[0].stdout


def test_every_public_method_and_every_name_in_the_guide_is_there(through):
    place = through('mex').place
    guide = (place / 'README.md').read_text(encoding='utf-8')
    for name, of, least in (('iblbridge', 'rig|iblbridge', 10), ('iblbridge_command', 'command', 8)):
        code = (place / f'{name}.m').read_text(encoding='utf-8')
        methods = set(re.findall(r'^        function (?:\w+ = )?(\w+)\(', code, re.MULTILINE))
        properties = set(re.findall(r'^        (\w+) = ', code, re.MULTILINE))
        used = set(re.findall(rf'\b(?:{of})\.(\w+)', guide)) - {'m', 'h'}
        assert len(used) > least and used <= methods | properties


# --- a program that serves ---


@pytest.fixture
def master(serve):
    """A worker that listens, and a master that goes on after errors."""
    worker = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0),))
    with closing(Auxiliaries({'cameras': f'udp://127.0.0.1:{worker.ports["cameras"]}'})) as master:
        master.worker = worker
        yield master


NEXT = 'command = []; while isempty(command), command = rig.next_command(100); end; '
SERVE = "rig = iblbridge('rig0', 'octave', 10000); rig.serve('cameras'); disp('serves'); "


def ask(master, *command):
    return master.submit(*command).result(20)['cameras']


def served(process) -> None:
    say(process, SERVE)
    assert hear(process) == 'serves'


def test_a_command_shows_all_that_the_library_says_of_it_and_bears_data(octave, master):
    with octave.session() as process:
        served(process)
        asked = master.submit('EXPSTART', '2026-01-01_1_x', {'é': 1})
        say(
            process,
            f'{NEXT} disp(command.message); disp(command.args{{1}}); disp(numel(command.args)); disp(command.service); '
            "disp(any(strfind(command.master, '127.0.0.1:'))); disp(command.timeout_ms); disp(command.is_open); "
            'disp(abs(iblbridge.clock_ns() - command.time) < 20e9); '
            "disp(command.answer('STOPPED', struct('file', 'é', 'big', intmax('int64')))); disp(command.is_open)",
        )
        said = [hear(process) for _ in range(10)]
        assert said == ['EXPSTART', '2026-01-01_1_x', '2', 'cameras', '1', '8000', '1', '1', '1', '0']
        assert asked.result(20)['cameras'].reply == [
            '2026-01-01_1_x',
            {'file': 'é', 'big': 2**63 - 1, 'status': 30},
        ]


@pytest.mark.parametrize(
    ('args', 'shown'),
    [
        ([], '1 double 0'),  # masters fill it with null
        ([[1, 2]], '1 double 2'),
        ([{'a': 1}], '1 struct 1'),
        ([[]], '1 double 0'),
        ([True], '1 logical 1'),
        (['text'], '1 char 4'),
        ([['a', 'b']], '1 cell 2'),
    ],
)
def test_arguments_are_cells_whatever_they_are(octave, master, args, shown):
    with octave.session() as process:
        served(process)
        asked = master.submit('EXPINIT', *args)
        say(
            process,
            f'{NEXT} a = command.args; printf("%d %s %d\\n", numel(a), class(a{{1}}), numel(a{{1}})); '
            'command.answer();',
        )
        assert hear(process) == shown
        assert asked.result(20)['cameras'].ok


def test_a_command_whose_last_variable_goes_fails_by_itself(octave, master):
    with octave.session() as process:
        served(process)
        left = master.submit('EXPINIT', {'a': 1})
        say(process, f"{NEXT} clear command; disp('gone')")
        assert 'The program left EXPINIT without an answer.' in left.result(20)['cameras'].error
        replaced = master.submit('EXPSTART', '2026-01-01_1_x')
        say(process, f'{NEXT} command = []; disp(1)')
        assert 'left EXPSTART without an answer' in replaced.result(20)['cameras'].error
        kept = master.submit('EXPINIT', {'a': 2})
        say(process, f"{NEXT} rig.close(); clear command; disp('closed')")
        assert 'ended before it answered' in kept.result(20)['cameras'].error


def test_work_that_ends_by_an_error_is_told_and_what_cannot_be_said_can_be_said_again(octave, master):
    with octave.session() as process:
        served(process)
        failed = master.submit('EXPINIT', {'a': 1})
        say(process, f"{NEXT} disp(command.attempt(@() error('a:b', 'Kamera 2 läuft nicht.'))); disp(command.error)")
        assert 'Kamera 2 läuft nicht.' in failed.result(20)['cameras'].error
        assert [hear(process), hear(process)] == ['1', 'Kamera 2 läuft nicht.']
        done = master.submit('EXPEND')
        tries = ('command.answer([], NaN)', "command.answer('RUNS')", 'command.answer(5)', "rig.tell('EXPSTART')")
        tries += ("rig.tell('EXPSTATUS')", "rig.serve('ephys')", "rig.serve('cameras', 'PING')")
        code = ''.join(f'try, {one}; disp(0); catch err, disp(err.identifier); end; ' for one in tries)
        say(
            process,
            f'{NEXT} {code} command.attempt(@() 5); try, command.answer(); catch err, disp(err.identifier); end',
        )
        said = ['ARGUMENT', 'ARGUMENT', 'ARGUMENT', 'MESSAGE', 'ARGUMENT', 'SERVICE', 'MESSAGE', 'COMMAND']
        assert [hear(process) for _ in said] == [f'iblbridge:{one}' for one in said]
        assert done.result(20)['cameras'].reply == [{'value': 5, 'status': 30}]


def test_an_interrupt_comes_beside_a_command_and_marks_it(octave, master):
    with octave.session() as process:
        served(process)
        start = master.submit('EXPSTART', '2026-01-01_1_x')
        say(process, f"{NEXT} first = command; disp('busy')")
        assert hear(process) == 'busy'
        other = Auxiliaries({'cameras': f'udp://127.0.0.1:{master.worker.ports["cameras"]}'})
        with closing(other):
            stop = other.submit('EXPINTERRUPT')
            say(
                process,
                f'{NEXT} disp([first.interrupted(), command.interrupted()]); command.answer(); first.attempt(@() 1);',
            )
            assert hear(process) == '1  0' and stop.result(20)['cameras'].ok
        assert 'An EXPINTERRUPT overtook this EXPSTART.' in start.result(20)['cameras'].error


def test_an_answer_that_comes_too_late_is_no_error(octave, serve):
    worker = serve('rig0', {}, listeners=(ListenerConfig('cameras', port=0, timeout=0.3),))
    with (
        octave.session() as process,
        closing(Auxiliaries({'cameras': f'udp://127.0.0.1:{worker.ports["cameras"]}'})) as master,
    ):
        served(process)
        late = master.submit('EXPSTART', '2026-01-01_1_x')
        say(process, f"{NEXT} disp('taken')")
        assert hear(process) == 'taken' and not late.result(20)['cameras'].ok
        say(process, 'disp(command.answer()); disp(rig.last_status == iblbridge.codes.E_LATE); disp(command.is_open)')
        assert [hear(process) for _ in range(3)] == ['0', '1', '0']


def test_the_loop_of_the_guide_serves(octave, master):
    guide = (octave.place / 'README.md').read_text(encoding='utf-8')
    (block,) = [block for block in re.findall(r'```matlab\n(.*?)```', guide, re.DOTALL) if 'next_command' in block]
    with octave.session() as process:
        say(process, block)
        eventually(lambda: master.worker._programs._behind['cameras'].client, 30)
        assert ask(master, 'EXPEND').reply == [{'frames': 5400, 'status': 30}]

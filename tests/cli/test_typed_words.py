"""What is typed: both command-line tools read it by the same rules, and say in one sentence what is wrong with it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge.cli import main
from bridge.cli.words import command_arguments, duration, parse_argument
from bridge.native import IBLB
from bridge.nearest import nearest
from bridge.numbers import MESSAGES
from bridge.segment.aio import AsyncClient
from bridge.segment.client import Client
from bridge.segment.payload import Refused, choose_services, message_number

TOOLS = ([str(IBLB), 'call'], [sys.executable, '-m', 'bridge', 'send'])
REF = '2026-01-01_1_subject'


def run(tool: list[str], *words: str, **options) -> subprocess.CompletedProcess[str]:
    """Run one of the tools."""
    return subprocess.run([*tool, *words], capture_output=True, encoding='utf-8', check=False, timeout=30, **options)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        (REF, REF), ('{"note": 1}', {'note': 1}), ('20', 20), ('null', None), ('"20"', '20'), ('', ''),
        ('NaN', 'NaN'), ('-5', -5), ('0123', '0123'), ('a "b"', 'a "b"'), (' {"a": 1} ', {'a': 1}), ('}', '}'),
    ],
)  # fmt: skip
def test_an_argument_is_json_if_it_parses_and_plain_words_otherwise(text, value):
    assert parse_argument(text) == value


@pytest.mark.parametrize(
    ('text', 'place'),
    [
        ('{"a": [}', 'character 8'), ('[1', 'character 3'), (' {a: 1}', 'character 3'), ('"2026', 'character'),
        ('["x"] y', 'character 7'), ('[NaN]', 'NaN'), ('[' * 99999, 'nested too deeply'), ('{"a": 1e999}', '1e999'),
    ],
)  # fmt: skip
def test_what_begins_like_json_and_is_none_is_refused_with_the_place(text, place):
    with pytest.raises(ValueError, match=r'begins like JSON but is not|larger than any') as caught:
        parse_argument(text)
    assert place in str(caught.value) and len(str(caught.value)) < 200


@given(st.text())
def test_any_argument_is_refused_or_can_be_sent_as_json(text):
    try:
        value = parse_argument(text)
    except ValueError:
        return
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
@pytest.mark.parametrize('text', ['{"a": [}', '[1', '"2026', '["x"] y', ' {a: 1}', '[NaN]'])
def test_both_tools_refuse_it_before_a_segment_is_looked_for(tool, text):
    """It used to start an experiment of that name."""
    done = run(tool, 'rig0', 'EXPSTART', text)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'begins like JSON but is not' in done.stderr


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
@pytest.mark.posix('there is no /dev/zero')
def test_a_file_without_an_end_is_not_read_for_ever(tool):
    done = run(tool, 'rig0', 'EXPINIT', '@/dev/zero')
    assert (done.returncode, done.stdout) == (2, '')
    assert '@/dev/zero: it has more than 1024 KiB; no command is so long.' in done.stderr


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
@pytest.mark.parametrize('text', ['1e999', '{"a": [0, -1.0E+999]}', '["a\\"1", 1e999]', '@file'])
def test_both_tools_refuse_a_number_that_no_computer_has_before_a_segment_is_looked_for(tool, text, tmp_path):
    """It was left to the worker, and iblb then printed all arguments, those out of a file too."""
    (tmp_path / 'file').write_text('{"me": "s3cret", "n": 1e999}')
    done = run(tool, 'rig0', 'EXPINIT', text, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert re.search(r': -?1(e|\.0E\+)999 is larger than any number that can be sent\.$', done.stderr)
    assert done.stderr.count('\n') == 1 and 's3cret' not in done.stderr


CASES = [
    ([], []),
    (['{"1e999": "-1e999", "n": [1.5e300, -0]}'], [{'1e999': '-1e999', 'n': [1.5e300, 0]}]),
    (['words 1e999'], ['words 1e999']),
    (['1' * 400], [int('1' * 400)]),
    (['plain words'], ['plain words']),
    (['20'], [20]),
    (['{"note": "é", "n": [1, 2]}'], [{'note': 'é', 'n': [1, 2]}]),
    (['["a"]'], ['a']),
    (['[["a", "b"]]'], [['a', 'b']]),
    (['0123'], ['0123']),
    (['say "so" \\ é\t'], ['say "so" \\ é\t']),
    (['NaN'], ['NaN']),
    (['@file'], [{'from': 'a file'}]),
    (['-'], ['typed elsewhere']),
    (['@-'], ['typed elsewhere']),
    (['--args-file', '-'], ['typed elsewhere']),
    (['--args-file', 'file'], [{'from': 'a file'}]),
    (['--', 'words'], ['words']),
    (['--timeout', '5s', '--', '--words'], ['--words']),
    (['--timeout', '5s', '-5'], [-5]),
    (['--timeout', '5s', '-'], ['typed elsewhere']),
]


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_both_tools_send_the_same(tool, serve, server, tmp_path):
    (tmp_path / 'file').write_text('\ufeff{"from": "a file"}\n', encoding='utf-8')
    serve('rig', {'cameras': server.uri})
    for words, sent in CASES:
        done = run(tool, 'rig', 'expInit', *words, input='typed elsewhere\n', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert server.saw[-1] == [1, *(sent or [None])], words
    done = run(tool, 'rig', 'ExpStart', '--timeout', '5s', REF, '{"note": 1}')
    assert (done.returncode, server.saw[-1]) == (0, [2, REF, {'note': 1}]), done.stderr
    done = run(tool, 'rig', 'EXPSTART', json.dumps([REF, {'note': 2}]), '--timeout=5000ms')
    assert (done.returncode, server.saw[-1]) == (0, [2, REF, {'note': 2}]), done.stderr


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_a_token_needs_not_stand_among_the_words_of_a_process(tool, serve, server, tmp_path):
    serve('rig', {'cameras': server.uri})
    run(tool, 'rig', 'ALYX', 'https://alyx', '-', input='{"me": "s3cret"}\n')
    assert server.saw[-1] == [128, 'https://alyx', {'me': 's3cret'}]
    done = run(tool, 'rig', 'ALYX', 'https://alyx', '-', input='{"me": "s3cret')
    assert done.returncode == 2 and 's3cret' not in done.stderr and 'standard input begins like JSON' in done.stderr


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_a_file_that_can_not_be_read_is_named(tool):
    done = run(tool, 'rig0', 'EXPSTART', '@absent')
    assert done.returncode == 2 and done.stderr.count('\n') == 1
    assert re.search(r'@absent: \w', done.stderr)


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
@pytest.mark.parametrize('words', [[REF, '--args-file', 'file'], ['--args-file', '']], ids=['both', 'without a name'])
def test_arguments_stand_in_a_file_that_has_a_name_or_on_the_line(tool, words, tmp_path):
    """`iblbridge send` took both, which `iblb` refuses, and sent nothing of a file whose variable was not set."""
    (tmp_path / 'file').write_text('{"note": 1}')
    done = run(tool, 'rig0', 'EXPSTART', *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'the arguments stand in --args-file, or here' in done.stderr or '@: ' in done.stderr
    assert done.stderr.count('\n') == 1


def test_arguments_are_the_array_that_is_the_only_one():
    assert command_arguments(['[1, 2]']) == [1, 2]
    assert command_arguments(['[1, 2]', '3']) == [[1, 2], 3]
    assert command_arguments(['{}']) == [{}]


@pytest.mark.parametrize(
    ('text', 'seconds'),
    [
        ('5', 5),
        ('5s', 5),
        ('500ms', 0.5),
        ('0.5', 0.5),
        ('.5s', 0.5),
        ('2min', 120),
        ('1h', 3600),
        ('0', 0),
        ('5 s', 5),
    ],
)
def test_a_time_may_have_a_unit(text, seconds):
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize('text', ['', 's', '5x', '-1', 'nan', 'inf', '1e3', '0x10', '5sec', '1.2.3', '9' * 400, '600h'])
@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_what_is_no_time_is_refused_in_one_sentence(tool, text):
    done = run(tool, 'rig0', 'PING', f'--timeout={text}')
    assert done.returncode == 2 and 'is not a time; write 5s or 500ms' in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('tool', [[str(IBLB)], [sys.executable, '-m', 'bridge']], ids=['iblb', 'iblbridge'])
def test_the_version_is_told(tool):
    done = run(tool, '--version')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.split() == [Path(tool[0]).stem if len(tool) == 1 else 'iblbridge', bridge.__version__]


@pytest.mark.parametrize(
    ('words', 'wrong', 'meant'),
    [
        (['snd', 'rig0'], 'snd', 'send'),
        (['Demo'], 'Demo', 'demo'),
        (['sevre', '--segment', 'a'], 'sevre', 'serve'),
        (['send', 'rig0', 'EXPSTRAT'], 'EXPSTRAT', 'EXPSTART'),
        (['send', 'rig0', 'expintit'], 'expintit', 'EXPINIT'),
        (['send', 'rig0', 'EXPSTAT'], 'EXPSTAT', 'EXPSTATUS'),
        (['send', 'rig0', 'PING', '--tiemout', '5'], '--tiemout', '--timeout'),
        (['serve', '--segmnt', 'rig0'], '--segmnt', '--segment'),
        (['--versoin'], '--versoin', '--version'),
        (['demo', '--fail', 'camera'], 'camera', 'cameras'),
        (['simulate', '--name', 'a', '--refuse', 'EXPSTAR'], 'EXPSTAR', 'EXPSTART'),
        (['kit', '--mtlab', 'x'], '--mtlab', '--matlab'),
    ],
)
def test_a_misspelt_word_is_named_and_the_nearest_offered_in_one_line(words, wrong, meant, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert wrong in said and f'did you mean {meant}?' in said
    assert said.count('\n') == 1 and '?.' not in said


@pytest.mark.parametrize(
    ('words', 'wrong', 'meant'),
    [
        (['cal', 'rig0', 'PING'], 'cal', 'call'),
        (['stat', 'rig0'], 'stat', 'state'),
        (['call', 'rig0', 'EXPSTRAT'], 'EXPSTRAT', 'EXPSTART'),
        (['notify', 'rig0', 'expintit'], 'expintit', 'EXPINIT'),
        (['call', 'rig0', 'expstat'], 'expstat', 'EXPSTATUS'),
        (['call', 'rig0', 'PING', '--tiemout', '5'], '--tiemout', '--timeout'),
    ],
)
def test_the_c_tool_names_it_likewise(words, wrong, meant):
    done = run([str(IBLB)], *words)
    assert (done.returncode, done.stdout) == (2, '')
    assert f'{wrong}; did you mean {meant}?' in done.stderr and done.stderr.count('\n') == 1


@pytest.mark.parametrize('text', ['0', '0s', '0ms', '0.0', '0.0001', '.5ms'])
@pytest.mark.parametrize('words', [['send', 'rig0', 'PING'], ['serve', '--segment', 'rig0']])
def test_no_time_at_all_is_no_time_to_wait(capsys, words, text):
    """Whether a command was carried out depended on luck."""
    assert main([*words, f'--timeout={text}']) == 2
    assert 'leaves no time for an answer' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['0', '0s', '0.0001s', '.5ms'])
def test_nor_is_it_for_the_c_tool(text):
    """It said that the worker was too busy."""
    done = run([str(IBLB)], 'call', 'rig0', 'PING', f'--timeout={text}')
    assert done.returncode == 2 and 'leaves no time for an answer' in done.stderr


@pytest.mark.parametrize(
    'words', [['banana'], ['call'], ['call', 'rig0'], ['ping'], ['ping', 'a', 'b'], ['call', 'r', 'PING', '--timeout']]
)
def test_what_is_missing_or_too_much_takes_one_line_not_the_whole_usage(words):
    done = run([str(IBLB)], *words)
    assert done.returncode == 2 and done.stderr.count('\n') == 1


def test_the_nearest_is_found_whatever_the_case_and_nothing_is_offered_for_what_is_like_nothing():
    assert nearest('expstrat', MESSAGES) == 'EXPSTART'
    assert nearest('banana', MESSAGES) == nearest('', MESSAGES) == nearest('x' * 10**6, MESSAGES) == ''
    with pytest.raises(ValueError, match="no message 'EXPSTRAT'; did you mean EXPSTART"):
        message_number('EXPSTRAT')
    with pytest.raises(ValueError, match="no message 'banana'; choose from EXPINIT, "):
        message_number('banana')


def test_a_service_that_is_misspelt_is_refused_with_the_nearest():
    with pytest.raises(Refused, match='no service "camera"; did you mean cameras. There are: cameras, ephys'):
        choose_services('camera', ['cameras', 'ephys'])
    with pytest.raises(Refused, match='no service "lamp"; there are: cameras, ephys'):
        choose_services('lamp', ['cameras', 'ephys'])


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_so_does_the_library_which_knows_the_names_of_a_living_worker(tool, serve):
    serve('rig', {'cameras': '127.0.0.1:9', 'ephys': '127.0.0.1:10'}, ask=False)
    done = run(tool, 'rig', 'EXPINIT', '--services', 'camera')
    assert done.returncode == 2
    assert 'no service "camera"; did you mean cameras? There are: cameras, ephys.' in done.stderr
    done = run(tool, 'rig', 'EXPINIT', '--services', 'lamp')
    assert done.returncode == 2 and 'no service "lamp"; there are: cameras, ephys.' in done.stderr


@pytest.mark.parametrize('names', [',', ' , ', 'cameras,', ',cameras'])
@pytest.mark.parametrize('tool', TOOLS)
def test_a_list_of_services_with_an_empty_name_reaches_nobody(tool, names, serve, server):
    """As ``--services "$A,$B"`` makes of two variables that are not set: it does not mean all of them."""
    serve('rig0', {'cameras': server.uri}, ask=False)
    done = run(tool, 'rig0', 'EXPEND', '--services', names)
    assert done.returncode == 2 and 'is empty' in done.stderr and server.saw == []


@pytest.mark.parametrize('names', ['', '  '])
@pytest.mark.parametrize('tool', TOOLS)
def test_services_that_name_none_reach_nobody(tool, names, serve, server):
    """As ``--services "$LIST"`` makes of a variable that is not set."""
    serve('rig0', {'cameras': server.uri}, ask=False)
    done = run(tool, 'rig0', 'EXPEND', '--services', names)
    assert done.returncode == 2 and server.saw == []
    assert 'names no service; leave it out to reach all' in done.stderr


@pytest.mark.parametrize('names', [[], (), {}, '', [''], [' '], ' ', ['cameras', '']], ids=repr)
def test_a_list_of_pythons_that_names_nobody_does_not_mean_all(names, serve, server):
    """Above all one that was filtered until nothing is left."""
    serve('rig0', {'cameras': server.uri}, ask=False)

    async def awaited() -> None:
        async with AsyncClient('rig0', 'awaits') as rig:
            for command in (rig.send, rig.notify):
                with pytest.raises(ValueError, match=r'names no service; leave it out|is empty'):
                    command('EXPEND', services=names)
            with pytest.raises(ValueError, match=r'names no service; leave it out|is empty'):
                await rig.call('EXPEND', services=names)

    with Client('rig0', 'stimulus') as client:
        for command in (client.call, client.send, client.notify):
            with pytest.raises(ValueError, match=r'names no service; leave it out|is empty'):
                command('EXPEND', services=names)
        asyncio.run(awaited())
        assert server.saw == []
        client.call('EXPEND', services=None)
    assert server.saw == [[4, None]]


def test_what_a_status_says_can_be_done_wherever_it_is_read():
    """At a shell prompt and in Python or C# there is no iblb_wait, and "by another thread. Nothing." says nothing."""
    from bridge.numbers import CODES
    from bridge.segment.library import error_text

    for code in CODES.values():
        text = error_text(code)
        assert not re.search(
            r'\b(call )?iblb_(wait|cancel|notify|open|close|last_error)\b|IBLB_EXP', text, re.IGNORECASE
        ), text
        assert not text.endswith(' Nothing.'), text


@pytest.mark.parametrize('tool', TOOLS, ids=['iblb', 'send'])
def test_a_command_whose_answer_comes_too_late_for_a_shell_is_not_to_be_waited_for(tool, serve):
    from peers import StockServer

    with StockServer(answers={1: None}) as slow:
        serve('rig', {'cameras': slow.uri}, timeout=3)
        done = run(tool, 'rig', 'EXPINIT', '--timeout', '700ms')
    assert done.returncode == 4, done
    assert 'EXPSTATUS' in done.stderr and 'wait' not in done.stderr.lower()


def test_messages_are_named_not_numbered_in_the_log():
    from bridge.services.rules import event_name

    assert [event_name(n) for n in (16, 0, 3)] == ['EXPINTERRUPT', 'an error', 'event 3']


def test_every_status_is_told_by_number_and_name():
    """It told numbers alone: who had read IBLB_E_PARTIAL in a log did not find it."""
    from bridge.numbers import CODE_NAMES

    lines = run([str(IBLB), 'codes']).stdout.splitlines()
    assert {(int(line.split()[0]), line.split()[1]) for line in lines} == set(CODE_NAMES.items())
    assert all(len(line.split()) > 3 for line in lines)


def test_help_for_a_command_that_is_not_there_leads_to_the_commands():
    done = run([sys.executable, '-m', 'bridge'], 'help', 'frobnicate')
    assert done.returncode == 2 and done.stderr.endswith('For usage: iblbridge --help\n'), done.stderr


def test_the_name_alone_shows_what_there_is(capsys):
    """It said that an argument named COMMAND was required."""
    assert main([]) == 2
    told = capsys.readouterr()
    assert main(['help']) == 0
    assert (told.out, told.err) == ('', capsys.readouterr().out)

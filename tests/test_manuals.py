"""What README and manuals say is so: links lead somewhere, tables are the code's, commands are taken."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields

import pytest
from manuals import MANUALS, ROOT, anchors, blocks, prose, table, text, words

from bridge import numbers
from bridge.cli.command import parser
from bridge.config import ListenerConfig, RigConfig, ServiceConfig, load_rig, load_settings
from bridge.kit import KITS
from bridge.listen.desk import WAITING_MOST
from bridge.listen.rules import REMEMBERED_FOR, reply
from bridge.native import PREFIX
from bridge.segment import listeners
from bridge.segment.client import Client

IDS = [str(manual.relative_to(ROOT)) for manual in MANUALS]
GUIDES = sorted((ROOT / 'examples').glob('*/README.md'))
each_manual = pytest.mark.parametrize('manual', MANUALS, ids=IDS)
SHELL = [
    (name, line)
    for name, manual in zip(IDS, MANUALS, strict=True)
    for kind in ('', 'powershell', 'sh')
    for block in blocks(manual.read_text(encoding='utf-8'), kind)
    for line in block.splitlines()
    if line.startswith('iblbridge ')
] + [
    (name, line)
    for name, manual in zip(IDS, MANUALS, strict=True)
    for line in re.findall(r'`(iblbridge [^`]*)`', prose(manual.read_text(encoding='utf-8')))
]


@pytest.mark.parametrize(
    'manual', [*MANUALS, ROOT / 'CHANGELOG.md', *GUIDES], ids=lambda manual: str(manual.relative_to(ROOT))
)
def test_no_line_of_prose_is_above_120_columns(manual):
    lines = prose(manual.read_text(encoding='utf-8')).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith('|')] == []


@each_manual
def test_code_fits_into_120_columns(manual):
    code = re.findall(r'^```.*?^```$', manual.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
    assert [line for block in code for line in block.splitlines() if len(line) > 120] == []


@each_manual
def test_a_word_has_one_spelling(manual):
    said = prose(manual.read_text(encoding='utf-8')).lower()
    assert [
        word for word in ('can not', 'told honestly', 'and question', 'time out ', 'filesystem') if word in said
    ] == []


def test_the_readme_is_read_in_five_minutes():
    assert len(text('README.md').splitlines()) <= 120


def test_what_is_typed_before_the_environment_is_activated_is_found():
    """A bare `iblbridge demo --fail cameras` stood there, which no new user's shell finds."""
    before, activated, _ = text('README.md').partition('Activate the environment')
    assert activated
    assert re.findall(r'^iblbridge .*|`iblbridge [^`]+`', before.partition('## Try it')[2], re.MULTILINE) == []


@pytest.mark.parametrize('manual', [*MANUALS, *GUIDES], ids=lambda manual: str(manual.relative_to(ROOT)))
def test_nobody_is_sent_to_a_package_index_for_what_is_not_there(manual):
    """The guide of Python said `pip install iblbridge`; it is installed from its folder, or from wheels."""
    commands = re.findall(r'pip install [^`\n]*', manual.read_text(encoding='utf-8'))
    assert [line for line in commands if re.search(r' iblbridge(?![-.\w])', line) and '--no-index' not in line] == []


def test_every_link_leads_somewhere():
    for manual in [*MANUALS, *GUIDES]:
        for link in re.findall(r'\]\(([^)\s]+)\)', prose(manual.read_text(encoding='utf-8'))):
            if link.startswith(('https://', 'http://')):
                continue
            path, _, anchor = link.partition('#')
            target = (manual.parent / path).resolve() if path else manual
            assert target.exists(), f'{manual}: {link}'
            assert not anchor or anchor in anchors(target.read_text(encoding='utf-8')), f'{manual}: {link}'


def test_what_the_program_says_of_a_manual_is_in_it():
    sources = [*(ROOT / 'bridge').rglob('*.py'), *(ROOT / 'csrc').glob('*.[ch]')]
    whole = '\n'.join(re.sub(r'"\s*\n\s*"', '', source.read_text(encoding='utf-8')) for source in sources)
    named = re.findall(r'((?:bridge|csrc|examples|tests)/\w+\.md): ([A-Z][\w ]+\w)\)', whole)
    assert len(named) >= 2
    for name, heading in named:
        assert f'\n## {heading}\n' in text(name)
    assert 'README,' not in whole and '(README' not in whole, 'which README?'


@pytest.mark.parametrize(('manual', 'line'), SHELL, ids=[f'{name}-{line}' for name, line in SHELL])
def test_every_iblbridge_command_is_taken(manual, line):
    arguments = [word.replace('\\', '/') for word in shlex.split(line.replace('\\', '\\\\'))][1:]
    assert callable(parser().parse_args(arguments).run), manual


def test_the_commands_of_the_manual_are_those_there_are():
    told = {line.split()[1] for name, line in SHELL if name == 'bridge/README.md'}
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert set(commands) <= told


def test_the_messages_are_iblutils_and_the_workers_with_their_numbers():
    rows = table(text('csrc/README.md'), 'message')
    assert {row[0].strip('`'): int(row[1]) for row in rows} == numbers.MESSAGES
    head = re.search(r'MESSAGES, AND THEIR ARGUMENTS.*?IBLB_PING', text('csrc/include/iblbridge.h'), re.DOTALL)
    assert head
    for row in rows[:-2]:
        arguments = re.escape(row[3].strip('`')).replace('exp_ref,\\ ', 'exp_ref, ')
        assert re.search(rf'IBLB_{row[0].strip("`")} +{arguments}', head[0]), row


def test_the_statuses_are_those_of_the_header():
    rows = table(text('csrc/README.md'), 'status')
    assert {row[1].strip('`'): int(row[0]) for row in rows} == numbers.STATUSES


def test_the_settings_of_the_manual_are_those_there_are_with_their_defaults():
    rows = table(text('bridge/README.md'), 'setting')
    assert set(words(rows)) == {field.name for field in fields(ServiceConfig)} - {'name'}
    said = {row[0].strip('`'): row[1] for row in rows}
    one = ServiceConfig('a', 'udp://127.0.0.1:11001')
    for name in ('echo_timeout', 'reply_gap', 'max_message_size'):
        assert float(said[name]) == getattr(one, name)
    assert set(said['repeat'].split(', ')) == set(one.repeat)
    rest = text('bridge/README.md').split('Of the rig, under `_rig`:')[1]
    of_rig = {field.name for field in fields(RigConfig)} - {'services', 'on_client_lost'}
    assert set(words(table(rest, 'setting'))) - {'on_client_lost'} == of_rig


def test_the_settings_of_a_listener_in_the_manual_are_those_there_are_with_their_defaults():
    rows = table(text('bridge/README.md'), 'of a listener')
    one = ListenerConfig('cameras')
    assert set(words(rows)) == ({field.name for field in fields(ListenerConfig)} - {'name', 'host', 'port'}) | {'uri'}
    said = {row[0].strip('`'): row[1] for row in rows}
    assert (float(said['timeout']), int(said['max_message_size'])) == (one.timeout, one.max_message_size)
    assert f'at most {WAITING_MOST} commands' in text('bridge/README.md')
    assert f'within {REMEMBERED_FOR // 10**9} s' in text('bridge/README.md')


def test_the_replies_of_the_manual_are_those_of_a_listener():
    rows = {row[0]: row[1] for row in table(text('bridge/README.md'), 'reply to')}
    for names, form in rows.items():
        for name in names.split(', '):
            if name == 'ALYX':
                continue
            said = reply(numbers.MESSAGES[name], {}, name='cameras', status=20, exp_ref='ref', info={})
            kinds = {'status': 20, '`exp_ref`': 'ref'}
            assert [kinds.get(part.split(' ')[0], dict) for part in form.split(', ', 1)] == [
                dict if isinstance(part, dict) else part for part in said
            ]
            assert all(f'`{key}`' in form for part in said if isinstance(part, dict) for key in part)


def test_the_files_of_settings_that_are_shown_are_taken(tmp_path):
    first, second, *more = blocks(text('bridge/README.md'), 'yaml')
    services, settings = tmp_path / 'remote_devices.yaml', tmp_path / 'rig0.yaml'
    services.write_text(first)
    settings.write_text(second)
    rig = load_rig(services)
    assert list(rig.services) == ['cameras', 'ephys', 'lamp']
    load_settings(settings, rig)
    for block in more:
        settings.write_text(block)
        load_settings(settings, rig)


def test_what_is_left_out_of_on_client_lost_is_what_the_manual_says(tmp_path):
    services = tmp_path / 'remote_devices.yaml'
    services.write_text('_rig: {on_client_lost: {client: stimulus}}')
    (lost,) = load_rig(services).on_client_lost
    (send, after) = re.findall(
        r'if it is left out, `(\w+)`; `after_s` is (\d+) if left\s+out', text('bridge/README.md')
    )[0]
    assert (lost.send, lost.after) == (send, float(after))


def test_the_events_of_the_worker_are_those_there_are():
    rows = table(text('bridge/README.md'), 'event of the worker')
    assert set(words(rows)) >= set(numbers.EVENTS) - set(numbers.MESSAGES)
    assert {word for row in rows for word in re.findall(r'`([A-Z_]+)`', row[0])} <= set(numbers.EVENTS)


def test_the_response_and_what_is_known_of_a_service_have_the_keys_that_are_told(serve, server):
    serve('rig', {'cameras': server.uri})
    with Client('rig') as client:
        body, known = client.call('EXPSTATUS'), client.call('SERVICES')
    manual = text('csrc/README.md')
    assert set(words(table(manual, 'key'))) == set(body)
    assert set(words(table(manual, 'key of a service'))) == set(body['services'][0])
    keys = set(words(table(text('bridge/README.md'), 'key')))
    assert keys == set(known['services'][0]['data'])
    of_a_listener = set(words(table(text('bridge/README.md'), 'key of a listener')))
    assert keys | of_a_listener == set(listeners.describe(listeners.Listener('cameras')))


def test_the_map_of_the_header_names_every_function_once():
    named = re.findall(r'`(iblb_\w+)`', '\n'.join(row[1] for row in table(text('csrc/README.md'), 'you want to')))
    assert sorted(named) == sorted(re.findall(r'^IBLB_API int (iblb_\w+)\(', text('csrc/include/iblbridge.h'), re.M))


@pytest.mark.posix('the flags are those of cc')
@pytest.mark.parametrize('name', ['README.md', 'csrc/README.md'])
def test_the_lines_of_c_that_are_shown_compile(name, tmp_path):
    if shutil.which('cc') is None:
        pytest.skip('no C compiler')
    (block,) = blocks(text(name), 'c')
    source = tmp_path / 'shown.c'
    source.write_text(f'#include "iblbridge.h"\nint main(void) {{\n{block}return status < 0;\n}}\n')
    command = ['cc', '-std=c99', '-Wall', '-Werror', '-fsyntax-only', '-I', ROOT / 'csrc' / 'include', source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.posix('the flags are those of cc')
def test_the_first_program_of_the_readme_says_what_failed_and_works_with_a_rig(serve, server, tmp_path):
    """It called on after an open that had failed, and was left with -8002 and a text that nobody had written."""
    if shutil.which('cc') is None:
        pytest.skip('no C compiler')
    (block,) = blocks(text('README.md'), 'c')
    source, program = tmp_path / 'first.c', tmp_path / 'first'
    end = 'printf("%d\\n%s\\n%s", status, json, status ? why : "");\nreturn 0;\n'
    source.write_text(f'#include <stdio.h>\n#include "iblbridge.h"\nint main(void) {{\n{block}{end}}}\n')
    where = [f'-I{PREFIX / "include"}', f'-L{PREFIX / "lib"}', f'-Wl,-rpath,{PREFIX / "lib"}', '-liblbridge']
    subprocess.run(['cc', '-std=c99', source, *where, '-o', program], check=True, timeout=60)

    def first() -> list[str]:
        return subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout.split('\n')

    code, json_text, *why = first()
    assert (int(code), json_text) == (numbers.CODES['IBLB_E_NO_SEGMENT'], '') and 'iblbridge serve' in why[0]
    serve('rig0', {'cameras': server.uri})
    code, json_text, *why = first()
    assert (int(code), why) == (0, ['']) and json.loads(json_text)['services'][0]['ok']


def test_the_lines_of_python_that_are_shown_run(serve, server):
    serve('rig0', {'cameras': server.uri})
    (block,) = blocks(text('bridge/README.md'), 'python')
    seen: dict[str, object] = {}
    exec(block, seen)
    assert seen['body']['code'] == 0  # type: ignore[index]


def test_the_life_of_a_command_has_the_states_of_the_rings():
    states = ' '.join(re.findall(r'enum (?:record|incoming)_state \{(.*?)\}', text('csrc/layout.h')))
    told = re.findall(r'`([A-Z]+(?: → [A-Z]+)+)`', text('csrc/README.md'))
    assert {state for way in told for state in way.split(' → ')} == set(re.findall(r'(?:STATE|INCOMING)_(\w+)', states))


def test_the_tests_that_are_named_exist():
    named = re.findall(r'`(?:tests/)?((?:\w+/)*test_\w+\.(?:py|c))`', ''.join(text(name) for name in IDS))
    assert len(named) >= 10
    assert [name for name in named if not list((ROOT / 'tests').rglob(name))] == []


@pytest.mark.parametrize('folder', ['bridge', 'csrc'])
def test_the_sources_that_are_named_exist(folder):
    named = re.findall(r'`(\w+\.(?:py|c|h|def))`', text(f'{folder}/README.md'))
    assert len(named) >= 8
    assert [name for name in named if not list((ROOT / folder).rglob(name))] == []


def test_the_folders_of_tests_and_their_markers_are_those_there_are():
    manual = text('tests/README.md')
    told = set(re.findall(r'`(\w+)/', '\n'.join(row[0] for row in table(manual, 'where'))))
    assert told == {file.relative_to(ROOT / 'tests').parts[0] for file in (ROOT / 'tests').glob('*/**/test_*.py')}
    markers = re.findall(r'^    "(\w+): takes|^    "(languages):', text('pyproject.toml'), re.MULTILINE)
    said = '\n'.join(blocks(manual))
    assert [name for pair in markers for name in pair if name and not re.search(rf"-m '?[\w ()]*{name}", said)] == []


def test_each_kit_has_a_row_and_its_guide():
    rows = table(text('README.md'), 'language')
    assert {row[1].strip('`') for row in rows} == {f'iblbridge kit --{kit} DIR' for kit in KITS if kit != 'julia'}
    for _, kit, guide in rows:
        assert f'(examples/{kit.split("--")[1].split()[0]}/README.md)' in guide


def test_what_is_written_across_the_languages_is_in_their_guides():
    manual = text('examples/README.md')
    folders = ('c', 'cpp', 'csharp', 'java', 'luajit', 'matlab', 'node', 'python')
    for want, *cells in table(manual, 'I want to'):
        for folder, cell in zip(folders, cells, strict=True):
            (called,) = re.findall(r'`(?:await )?(\w+(?:[.:]\w+)?)', cell)
            assert re.search(rf'\b{re.escape(called)}\b', text(f'examples/{folder}/README.md')), (want, folder, cell)


def test_the_session_of_the_demo_is_as_it_prints():
    (shown,) = (block for block in blocks(text('README.md')) if 'EXPINFO' in block)
    command = [sys.executable, '-m', 'bridge', 'demo']
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)

    def plain(said: str) -> str:
        return re.sub(r' +\d+\.\d ms', ' T', said)

    assert plain(shown) in plain(done.stdout)

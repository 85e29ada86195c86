"""A worker that starts by itself: what systemd and Windows are given, and that the very command serves a rig."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import install, logfile, main
from bridge.cli.install import systemd, task_scheduler
from bridge.segment.client import Client

TOOL = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.calls"
[ ! -e "$0.fails" ] || { echo "Failed to connect to bus: no medium found" >&2; exit 1; }
case "$*" in
*show*) printf 'ActiveState=active\\nSubState=running\\nUnitFileState=enabled\\nno\\n' ;;
esac
"""


def unquoted(line: str) -> list[str]:
    """Read a line as systemd does."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    plain = (re.sub(r'\\(.)', lambda sign: {'n': '\n', 't': '\t'}.get(sign[1], sign[1]), word) for word in words)
    return [word.replace('%%', '%').replace('$$', '$') for word in plain]


@pytest.fixture
def home(tmp_path, monkeypatch, posix_only):
    """A home of its own, and tools of systemd that note what they are told."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in ('systemctl', 'loginctl'):
        (tools / name).write_text(TOOL)
        (tools / name).chmod(0o755)
    monkeypatch.setenv('PATH', str(tools), prepend=os.pathsep)
    monkeypatch.setenv('HOME', str(tmp_path / 'a home'))
    monkeypatch.delenv('XDG_CONFIG_HOME', raising=False)
    monkeypatch.delenv('XDG_STATE_HOME', raising=False)
    monkeypatch.delenv('IBLBRIDGE_WAIT', raising=False)
    return tmp_path / 'a home'


@pytest.fixture
def posix_only():
    if sys.platform == 'win32':
        pytest.skip('systemd is of Linux')


def calls(home: Path, tool: str = 'systemctl') -> list[str]:
    noted = home.parent / 'tools' / f'{tool}.calls'
    return noted.read_text().splitlines() if noted.exists() else []


def test_a_rig_is_installed_shown_and_uninstalled(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('my services.yaml').write_text('cameras: 127.0.0.1:9\n')
    words = ['install', '--segment', 'rig0', '--services', 'my services.yaml', '--journal', 'rig0.jsonl', '--notify']
    assert main(words) == 0
    assert calls(home) == [
        '--user daemon-reload',
        '--user enable iblbridge-rig0.service',
        '--user restart iblbridge-rig0.service',
    ]
    unit = (home / '.config/systemd/user/iblbridge-rig0.service').read_text()
    assert unquoted(re.search('ExecStart=(.*)', unit)[1]) == [
        *(sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig0'),
        *('--services', str(tmp_path / 'my services.yaml'), '--journal', str(tmp_path / 'rig0.jsonl'), '--notify'),
        *('--log', str(home / '.local/state/iblbridge/rig0.log')),
    ]
    assert unquoted(re.search('Environment=(.*)', unit)[1]) == [f'IBLBRIDGE_DIR={tmp_path}']
    said = capsys.readouterr().out
    assert 'loginctl enable-linger' in said and str(home / '.local/state/iblbridge/rig0.log') in said

    assert main(['status']) == 0
    said = capsys.readouterr().out
    assert 'rig0: active (running), starts with the login' in said and 'rig0.log' in said
    assert main(['status', 'rig1']) == 3
    assert main(['uninstall', 'rig1']) == 3
    assert 'there are: rig0' in capsys.readouterr().err

    assert main(['uninstall', 'rig0']) == 0
    assert '--user disable --now iblbridge-rig0.service' in calls(home)
    assert not list((home / '.config/systemd/user').iterdir())
    capsys.readouterr()
    assert main(['status']) == 3
    assert capsys.readouterr().err == 'iblbridge status: no worker is installed; iblbridge install does that\n'
    assert main(['status', 'rig1']) == 3
    assert capsys.readouterr().err.startswith('iblbridge status: rig1 is not installed; ')


def test_several_rigs_are_installed_side_by_side(home, capsys):
    for name in ('rig0', 'rig-1', 'a.b'):
        assert main(['install', '--segment', name, '--service', 'cameras=127.0.0.1']) == 0
    assert systemd.segments() == ['a.b', 'rig-1', 'rig0']
    assert main(['status']) == 0
    assert main(['uninstall', 'rig-1']) == 0
    assert systemd.segments() == ['a.b', 'rig0']


@pytest.mark.parametrize(
    'words',
    [
        ['--services', 'absent.yaml'],
        ['--service', 'cameras'],
        ['--journal', ''],
        ['--timeout', '5000'],
        ['--journal', '.'],
        [],
    ],
)
def test_what_serve_would_refuse_is_refused_before_anything_is_installed(home, capsys, words):
    assert main(['install', '--segment', 'rig0', *words]) == 2
    assert capsys.readouterr().err.startswith('iblbridge install: ')
    assert not calls(home) and not home.exists()


def test_a_token_that_the_worker_would_not_have_is_refused_before_anything_is_installed(home, capsys, monkeypatch):
    """It was checked and left behind: the page was open to each user of the PC, or had another token at each start."""
    monkeypatch.setenv('IBLBRIDGE_HTTP_TOKEN', 'a-long-word-of-my-own')
    words = ['install', '--segment', 'rig0', '--service', 'cameras=127.0.0.1']
    assert main([*words, '--http', '0.0.0.0:8650']) == 2
    assert 'IBLBRIDGE_HTTP_TOKEN: a worker that starts by itself may not have it' in capsys.readouterr().err
    assert not calls(home) and not home.exists()
    settings = home.parent / 'rig0.yaml'
    settings.write_text('_rig: {http: {token: a-long-word-of-the-file}}\n')
    assert main([*words, '--http', '0.0.0.0:8650', '--settings', str(settings)]) == 0
    assert main(words) == 0


@pytest.mark.parametrize('name', ['', 'a/b', '../../x', 'a b', '.x', 'x.', 'x' * 64])
def test_a_name_that_no_segment_has_is_refused_before_anything_is_written(home, capsys, name):
    assert main(['install', '--segment', name, '--service', 'cameras=127.0.0.1']) == 2
    assert 'names no segment' in capsys.readouterr().err
    assert not home.exists() and not calls(home)


def test_where_systemd_does_not_run_that_is_said_in_one_sentence(home, capsys):
    (home.parent / 'tools/systemctl.fails').touch()
    assert main(['install', '--segment', 'rig0', '--service', 'cameras=127.0.0.1']) == 3
    said = capsys.readouterr().err
    assert 'systemd does not run for this user here (Failed to connect to bus: no medium found)' in said
    assert said.count('\n') == 1 and not systemd.segments()


def test_where_there_is_no_systemd_that_is_said_as_well(home, capsys):
    for tool in ('systemctl', 'loginctl'):
        (home.parent / 'tools' / tool).unlink()
    os.environ['PATH'] = str(home.parent / 'tools')
    assert main(['install', '--segment', 'rig0', '--service', 'cameras=127.0.0.1']) == 3
    assert 'there is no systemctl on this computer' in capsys.readouterr().err


@given(st.text(st.characters(codec='utf-8', exclude_characters='\0\r'), min_size=1))
def test_any_word_reaches_the_worker_as_it_was_typed(word):
    assert unquoted(systemd.quoted(word)) == [word]
    assert '\n' not in systemd.quoted(word)


def test_the_command_that_is_installed_serves_the_rig_and_writes_its_log(home, server, serving_segment='rig7'):
    assert main(['install', '--segment', serving_segment, '--service', f'cameras={server.uri}', '--remove']) == 0
    unit = (home / '.config/systemd/user/iblbridge-rig7.service').read_text()
    process = subprocess.Popen(
        unquoted(re.search('ExecStart=(.*)', unit)[1]), cwd='/', stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Client(serving_segment, timeout=20) as client:
            assert client.call('EXPSTATUS')['code'] == 0
    finally:
        process.terminate()
        assert process.wait(20) == 0
    log = install.log_place(serving_segment).read_text()
    assert 'service cameras: ' in log and 'stopped by SIGTERM' in log


def test_a_log_is_begun_anew_when_it_is_large_and_the_last_ones_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(logfile, 'MOST_BYTES', 1000)
    handler = logfile.open_log(str(tmp_path / 'rig0.log'))
    for number in range(200):
        handler.emit(logging.LogRecord('x', logging.INFO, 'x', 1, 'line %d of many', (number,), None))
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ['rig0.log', *(f'rig0.log.{n}' for n in range(1, logfile.KEPT + 1))]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert 'line 199 of many' in files[0].read_text()


@pytest.mark.posix('is about the mode of a file; on Windows its folder decides')
def test_a_log_is_its_owners_alone_also_after_it_was_begun_anew(tmp_path, monkeypatch):
    """The address of the status page stands in it, with the token by which one may interrupt the rig."""
    monkeypatch.setattr(logfile, 'MOST_BYTES', 10)
    before = os.umask(0o022)
    try:
        handler = logfile.open_log(str(tmp_path / 'rig0.log'))
        for _ in range(2):
            handler.emit(logging.LogRecord('x', logging.INFO, 'x', 1, 'a line', (), None))
        handler.close()
    finally:
        os.umask(before)
    files = list(tmp_path.iterdir())
    assert len(files) > 1 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_log_whose_disk_is_full_says_so_once_and_goes_on_when_there_is_room(tmp_path, monkeypatch, caplog, capsys):
    """Each line of the log became a traceback on standard error."""
    handler = logfile.open_log(str(tmp_path / 'rig0.log'))
    whole = handler.stream.flush

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for fate, says in ((refuse, 1), (whole, 0), (refuse, 1)):
        monkeypatch.setattr(handler, 'flush', fate)
        caplog.clear()
        for number in range(3):
            handler.emit(logging.LogRecord('x', logging.INFO, 'x', 1, 'line %d', (number,), None))
        said = [one.getMessage() for one in caplog.records]
        assert len(said) == says and all('rig0.log cannot be written: [Errno 28]' in one for one in said)
    monkeypatch.undo()
    handler.close()
    assert capsys.readouterr().err == ''
    assert (tmp_path / 'rig0.log').read_text().count('line 2') == 3


def test_a_log_that_cannot_be_written_is_refused_before_the_rig_is_served(tmp_path, capsys):
    assert main(['serve', '--segment', 'rig0', '--log', str(tmp_path / 'absent' / 'log')]) == 2
    assert '--log' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_windows_gets_a_task_that_starts_at_logon_and_again_after_a_crash():
    words = [
        r'C:\Program Files\Python\pythonw.exe',
        '-m',
        'bridge',
        'serve',
        '--segment',
        'rig0',
        '--services',
        r'C:\a b.yaml',
    ]
    root = ElementTree.fromstring(task_scheduler.task('rig0', words, r'LAB\someone & co'))
    found = {element.tag.rpartition('}')[2]: element.text for element in root.iter()}
    assert root.tag == f'{{{task_scheduler.NAMESPACE}}}Task'
    assert found['Command'] == words[0]
    assert found['Arguments'] == r'-m bridge serve --segment rig0 --services "C:\a b.yaml"'
    assert found['UserId'] == r'LAB\someone & co'
    assert (found['Interval'], found['ExecutionTimeLimit']) == ('PT1M', 'PT0S')
    assert (found['StopIfGoingOnBatteries'], found['DisallowStartIfOnBatteries']) == ('false', 'false')
    assert list(root)[0].tag.endswith('RegistrationInfo'), 'Windows wants them in this order'
    assert [one.tag.rpartition('}')[2] for one in root] == [
        'RegistrationInfo', 'Triggers', 'Principals', 'Settings', 'Actions'
    ]  # fmt: skip


def test_what_windows_says_of_its_tasks_is_read(monkeypatch):
    rows = [
        (r'\iblbridge\rig0', 'N/A', 'Running'),
        (r'\iblbridge\rig0', '27/11/2026', 'Running'),
        (r'\Other\x', 'N/A', 'Ready'),
    ]
    said = ''.join('"' + '","'.join(row) + '"\r\n' for row in rows)

    def run(words, **_):
        return subprocess.CompletedProcess(words, 0, said if '/tn' not in words else said.splitlines()[0], '')

    monkeypatch.setattr(task_scheduler.subprocess, 'run', run)
    assert task_scheduler.segments() == ['rig0']
    assert task_scheduler.state('rig0') == 'Running'


def test_a_task_that_needs_an_environment_says_what_to_set(monkeypatch):
    monkeypatch.setattr(task_scheduler, 'of_the_user', lambda name: 'D:\\else')
    monkeypatch.setattr(task_scheduler.subprocess, 'run', lambda *_, **__: pytest.fail('nothing is to be made'))
    assert 'setx IBLBRIDGE_DIR "D:\\x"' in task_scheduler.install('rig0', ['x'], {'IBLBRIDGE_DIR': 'D:\\x'})


def test_a_task_is_made_once_what_it_needs_is_set_for_the_user(monkeypatch):
    """It was refused with the advice to use setx also when that had been done, for ever."""
    made = []

    def run(words, **_):
        made.append(words[1])
        return subprocess.CompletedProcess(words, 0, '', '')

    monkeypatch.setattr(task_scheduler, 'of_the_user', lambda name: 'D:\\x')
    monkeypatch.setattr(task_scheduler.subprocess, 'run', run)
    assert task_scheduler.install('rig0', ['x'], {'IBLBRIDGE_DIR': 'D:\\x'}) == ''
    assert made == ['/create', '/run']

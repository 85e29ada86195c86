"""``iblbridge doctor``: it sees who holds what, and removes nothing that somebody holds."""

from __future__ import annotations

import json
import os
import re
import struct
import time
from pathlib import Path

import pytest
from peers import eventually, free_port
from processes import CLIENT, SEGMENT, SLOTS_OFFSET, WORKER, kill, program, write
from systems import WINDOWS, go_on, let_everybody_write, opened, stop

from bridge.cli import doctor as told
from bridge.cli import main
from bridge.errors import BridgeError
from bridge.segment import inspection as doctor
from bridge.segment import kept, losses
from bridge.segment.client import Client
from bridge.segment.served import Segment

HALF_MADE = '.rig.0123456789abcdef'


def answer_all(segment: Segment) -> None:
    for command in segment.take(0)[1]:
        segment.respond(command, 0, b'\x80')


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def doctor_says(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict]:
    capsys.readouterr()
    status = main(['doctor', '--json', *options])
    said = json.loads(capsys.readouterr().out)
    assert said.pop('asked') == []
    assert set(said.pop('surroundings')) == {'library', 'twins', 'program', 'firewall', 'sleep', 'findings'}
    return status, said


def test_nothing_at_all_is_healthy(capsys, monkeypatch, tmp_path):
    assert doctor_says(capsys)[0] == 0
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / 'not-there'))
    assert doctor_says(capsys) == (
        0,
        {
            'directory': str(tmp_path / 'not-there'),
            'healthy': True,
            'removed': [],
            'left': [],
            'ignored': [],
            'segments': [],
        },
    )


def test_a_served_segment_is_healthy_and_everybody_who_holds_it_is_named(capsys):
    with Segment('rig') as segment, Client('rig', 'stimulus') as client, program(CLIENT, 'rig', 'bonsai') as other:
        segment.publish_services(['cameras', 'éphys'])
        segment.publish_services_up(1)
        client.send('EXPINIT')
        client.send('EXPSTART', 'r')
        status, said = doctor_says(capsys)
        (report,) = said['segments']
        first, second = report['slots']
        assert (status, said['healthy'], report['findings']) == (0, True, [])
        assert (report['name'], report['kind'], report['worker_alive'], report['boot']) == (
            'rig',
            'segment',
            True,
            'this',
        )
        assert (report['worker']['pid'], report['worker']['epoch'], report['locks']) == (os.getpid(), 1, 3)
        assert 0 <= report['worker']['age'] < 100
        assert (report['services'], report['services_up'], report['size']) == (['cameras', 'éphys'], 1, 16)
        assert (report['bytes'], report['layout']) == (os.path.getsize(segment.path), 2)
        assert (first['client'], first['pid'], first['alive'], first['pending']) == ('stimulus', os.getpid(), True, 2)
        assert (second['client'], second['pid'], second['state'], second['pending']) == (
            'bonsai',
            other.pid,
            'claimed',
            0,
        )
        main(['doctor'])
        shown = capsys.readouterr().out
        for word in ('rig', 'stimulus', 'bonsai', str(other.pid), 'cameras', 'all is well'):
            assert word in shown


def test_a_dead_client_is_no_fault_where_a_worker_lives_and_is_told_until_its_slot_is_free(capsys):
    """The script that asks before a session was told that there was something to do, for a second."""
    with Segment('rig') as segment:
        with program(CLIENT, 'rig', 'dies', 'EXPINIT') as client:
            pass
        status, said = doctor_says(capsys)
        (report,) = said['segments']
        (slot,) = report['slots']
        assert (status, slot['alive'], slot['pid'], slot['pending']) == (0, False, client.pid, 1)
        assert report['findings'] == []
        assert report['notes'] == ['dies ended without closing; its slot is free within a second']
        main(['doctor'])
        shown = capsys.readouterr().out
        assert f'  {report["notes"][0]}\n' in shown and '!' not in shown

        def is_free() -> bool:
            answer_all(segment)
            list(segment.lost_clients())
            return not doctor_says(capsys)[1]['segments'][0]['notes']

        assert eventually(is_free)


def test_a_dead_client_without_a_worker_stays_something_to_do(capsys):
    with Segment('rig'), program(CLIENT, 'rig', 'dies', 'EXPINIT'):
        pass
    status, said = doctor_says(capsys)
    assert status == 1 and said['segments'][0]['notes'] == []
    assert said['segments'][0]['findings'][0].startswith(
        'No worker serves it: 1 command of 1 program without an answer, 1 of these gone.'
    )


@pytest.mark.posix('says of a process that it is stopped; Windows does not')
def test_a_dead_client_beside_a_worker_that_is_stopped_stays_something_to_do(capsys):
    with program(WORKER, 'rig') as worker:
        with program(CLIENT, 'rig', 'dies'):
            stop(worker)
        status, said = doctor_says(capsys)
        assert status == 1 and said['segments'][0]['notes'] == []
        assert any('Slot 0 (dies)' in finding for finding in said['segments'][0]['findings'])
        go_on(worker)


OWES = """
import sys
from bridge.config import ClientLost
from bridge.worker import Worker
worker = Worker('rig', {}, on_client_lost=[ClientLost('dies', 'EXPEND', 3600.0)])
print('ready', worker.path, flush=True)
worker.run()
"""


def told_of(directory: Path, key: str) -> dict:
    return dict(kept.load(directory / 'rig', losses.KIND).get(key, {}))


@pytest.mark.parametrize('when', ['the worker lives', 'no worker lives'])
def test_what_a_worker_owes_for_a_lost_program_is_told_and_not_cleaned_away(capsys, segment_directory, when):
    """All was said to be well, --clean removed the note, and the cameras went on for ever."""
    with program(OWES) as worker:
        eventually(lambda: told_of(segment_directory, 'sends') == {'dies': 'EXPEND'}, 20)
        with program(CLIENT, 'rig', 'dies'):
            if when == 'no worker lives':
                kill(worker)
        if when == 'the worker lives':
            eventually(lambda: told_of(segment_directory, 'lost'), 20)
            status, said = doctor_says(capsys, '--clean')
            assert (status, said['removed'], said['segments'][0]['owed'][0]['client']) == (0, [], 'dies')
            assert re.search(r'goes to all services in \d+ min, unless it comes back', said['segments'][0]['notes'][0])
            assert 0 < said['segments'][0]['owed'][0]['left'] <= 3600
            kill(worker)
    for _ in range(2):
        status, said = doctor_says(capsys, '--clean')
        (report,), (left,) = said['segments'], said['left']
        assert (status, said['removed'], [(one['client'], one['send']) for one in report['owed']]) == (
            1, [], [('dies', 'EXPEND')],
        )  # fmt: skip
        assert 'EXPEND has not gone to the services' in left['why'] and 'iblbridge serve --segment rig' in left['why']
        assert report['findings'][0] in left['why'] and left['why'].endswith('iblbridge doctor --clean --drop rig.')
        assert not [one for one in report['findings'] if '--clean' in one]
    assert told_of(segment_directory, 'sends') == {'dies': 'EXPEND'}


def test_a_worker_that_has_no_rule_for_it_drops_what_is_owed_as_doctor_says(capsys, segment_directory, serve):
    with program(OWES) as worker:
        eventually(lambda: told_of(segment_directory, 'sends'), 20)
        with program(CLIENT, 'rig', 'dies'):
            kill(worker)
    assert doctor_says(capsys)[0] == 1
    serve('rig', {}).end_of_test()
    status, said = doctor_says(capsys, '--clean')
    assert (status, said['removed'], files(segment_directory)) == (0, ['rig'], set())


SENT = {
    'to do something': (['EXPINIT'], {}, True),
    'and a question': (['EXPSTATUS', 'EXPSTART'], {}, True),
    'only to ask': (['EXPSTATUS', 'EXPINFO', 'PING'], {}, False),
    'before the PC slept': (['EXPINIT'], {136: 'now'}, False),
    'before an EXPINTERRUPT': (['EXPINIT'], {128: 'now'}, False),
    'and it is one': (['EXPINTERRUPT'], {128: 'now'}, True),
}


@pytest.mark.parametrize('what', SENT)
def test_what_programs_that_are_gone_had_sent_is_cleaned_away_only_if_no_worker_would_send_it(
    capsys, segment_directory, what
):
    """It was dropped, although it would have been carried out."""
    messages, scribbles, stays = SENT[what]
    with Segment('rig'), Client('rig', 'notifier') as client:
        client.notify('EXPSTATUS')
        with program(CLIENT, 'rig', 'dies', *messages):
            pass
    for offset in scribbles:
        write(segment_directory / 'rig', offset, struct.pack('=Q', time.perf_counter_ns()))
    status, said = doctor_says(capsys, '--clean')
    assert (status, said['removed']) == ((1, []) if stays else (0, ['rig']))
    if stays:
        (left,) = said['left']
        assert left['why'].startswith('1 command of dies, which is gone, was not sent. The next worker does that')
        assert [slot['waiting'] for slot in said['segments'][0]['slots']] == [0, 1]
        assert doctor_says(capsys, '--clean', '--drop', 'rig')[1]['removed'] == ['rig']
    assert files(segment_directory) == set()


def test_what_a_program_that_has_closed_had_sent_is_cleaned_away_when_it_is_too_old(capsys, segment_directory):
    with Segment('rig'), Client('rig', 'ends') as client:
        client.notify('EXPSTART', 'r', ttl=0.001)
        client.notify('EXPEND', ttl=None)
    eventually(lambda: [slot['waiting'] for slot in doctor_says(capsys)[1]['segments'][0]['slots']] == [1])
    assert doctor_says(capsys, '--clean')[1]['removed'] == []
    assert doctor_says(capsys, '--clean', '--drop', 'another', '--drop', 'rig')[1]['removed'] == ['rig']


def test_what_is_kept_beside_a_segment_goes_with_it_and_never_that_of_the_next_one(
    capsys, segment_directory, monkeypatch
):
    """A worker that started right after found what it owed its masters removed while it wrote it."""
    Segment('rig').close()
    for kind in kept.KINDS:
        kept.place(segment_directory / 'rig', kind).write_text('{}')
        kept.place(segment_directory / 'rig', f'{kind}.new').write_text('half of it')
    others = kept.place(segment_directory / 'rig2', 'listeners')
    others.write_text('{}')

    def check(code: int) -> None:
        assert code >= 0
        if not (segment_directory / 'rig').exists():
            assert files(segment_directory) == {others.name}
            kept.place(segment_directory / 'rig', 'listeners').write_text('{}')

    monkeypatch.setattr(doctor, 'check', check)
    doctor.clean('rig')
    assert files(segment_directory) == {others.name, '.rig.listeners'}


def test_what_is_to_be_dropped_is_named_and_there(capsys):
    assert main(['doctor', '--drop', 'rig']) == 2 and 'add --clean' in capsys.readouterr().err
    Segment('other').close()
    code, said = doctor_says(capsys, '--clean', '--drop', 'rig')
    assert said['left'] == [{'name': 'rig', 'why': 'there is no such segment'}]
    assert code == 1, 'a script that has it dropped learns that it was not'
    with Segment('rig'):
        code, said = doctor_says(capsys, '--clean', '--drop', 'rig')
        assert (code, said['removed']) == (1, []), 'nor is what somebody has open'


@pytest.mark.parametrize('garbage', [b'', b'[' * 9, b'{"lost": {"a": 1}}', b'{"sends": 5, "lost": 7, "segment": 1}'])
def test_a_note_that_makes_no_sense_keeps_no_segment(capsys, segment_directory, garbage):
    Segment('rig').close()
    kept.place(segment_directory / 'rig', losses.KIND).write_bytes(garbage)
    status, said = doctor_says(capsys, '--clean')
    assert (status, said['removed'], files(segment_directory)) == (0, ['rig'], set())


@pytest.mark.parametrize(
    ('content', 'status'), [('', 1), ('_rig: {listen: {cameras: "udp://:11001"}}', 0), ('_rig: {}', 1)]
)
def test_a_file_without_services_is_told_for_nobody_was_asked(capsys, tmp_path, content, status):
    """All was said to be well."""
    path = tmp_path / 'apart' / 'services.yaml'  # the folder above is that of the segments
    path.parent.mkdir()
    path.write_text(content)
    assert main(['doctor', '--services', str(path)]) == status
    shown = capsys.readouterr().out
    assert f'{path}: no service in this file; nobody was asked' in shown
    assert ('all is well' in shown) == (status == 0)


def test_a_client_that_was_closed_is_no_fault_however_late_a_worker_frees_its_slot(capsys):
    """Beside a busy worker doctor found that a program was gone which had only ended: there was nothing to do."""
    with Segment('rig') as segment:  # takes nothing, as if it were busy
        with Client('rig', 'ends') as client:
            client.send('EXPINIT')
        status, said = doctor_says(capsys)
        (slot,) = said['segments'][0]['slots']
        assert (status, slot['client'], slot['alive'], slot['closed'], slot['pending']) == (0, 'ends', False, True, 1)
        main(['doctor'])
        assert 'closed' in capsys.readouterr().out

        def is_free() -> bool:
            answer_all(segment)
            return not doctor_says(capsys)[1]['segments'][0]['slots']

        assert eventually(is_free)


def test_a_quarantined_client_is_told(capsys, segment_directory):
    with Segment('rig') as segment, Client('rig', 'scribbler'):
        segment.take(0)
        write(segment_directory / 'rig', SLOTS_OFFSET + 192, b'\x01')  # the tail of its command ring
        assert 'makes no sense' in doctor_says(capsys)[1]['segments'][0]['findings'][0]
        segment.take(0)
        status, said = doctor_says(capsys)
        assert (status, said['segments'][0]['slots'][0]['state']) == (1, 'quarantined')
        assert 'memory error' in said['segments'][0]['findings'][0]


def test_a_segment_whose_worker_died_is_left_to_its_client_and_removed_after_it(capsys, segment_directory):
    with program(SEGMENT, 'rig') as worker, Client('rig', 'waits', timeout=5):
        kill(worker)
        status, said = doctor_says(capsys, '--clean')
        (report,) = said['segments']
        assert (status, said['removed'], report['worker_alive'], report['worker']['pid']) == (1, [], False, worker.pid)
        assert 'No worker' in report['findings'][0]
        assert said['left'][0]['name'] == 'rig' and 'slot 0' in said['left'][0]['why']
    assert files(segment_directory) == {'rig'}
    status, said = doctor_says(capsys)
    assert status == 1 and 'no worker and no clients' in said['segments'][0]['findings'][0]
    status, said = doctor_says(capsys, '--clean')
    assert (status, said['removed'], said['left'], said['segments']) == (0, ['rig'], [], [])
    assert files(segment_directory) == set()


def test_a_house_that_is_full_of_what_closed_programs_left_has_one_cause_and_one_line(capsys):
    Segment('rig').close()
    for number in range(15):
        with Client('rig', f'notifier-{number}', timeout=0) as client:
            client.notify('EXPINIT')
    status, said = doctor_says(capsys)
    (finding,) = said['segments'][0]['findings']
    assert status == 1 and finding.startswith(
        'No worker serves it and frees the slots, and all are taken: 15 commands of'
    )
    assert finding.endswith('Start the worker: iblbridge serve --segment rig.')


def test_of_several_only_the_ownerless_is_removed(capsys, segment_directory):
    with Segment('served'), program(CLIENT, 'served', 'a'):
        Segment('left').close()
        status, said = doctor_says(capsys, '--clean')
        assert (status, said['removed'], [row['name'] for row in said['left']]) == (0, ['left'], ['served'])
        assert files(segment_directory) == {'served'}


def test_what_is_only_stopped_is_never_removed(capsys, segment_directory):
    with program(SEGMENT, 'rig') as worker:
        stop(worker)
        status, said = doctor_says(capsys, '--clean')
        assert (said['removed'], said['left'][0]['name']) == ([], 'rig') and str(worker.pid) in said['left'][0]['why']
        go_on(worker)
        with program(CLIENT, 'rig', 'a') as client:
            stop(client)
            kill(worker)
            status, said = doctor_says(capsys, '--clean')
            assert (status, said['removed'], said['left'][0]['name']) == (1, [], 'rig')
            assert files(segment_directory) == {'rig'}


def test_who_has_a_removed_segment_mapped_is_told(capsys):
    """A client that has just opened the file and holds no lock yet must not go on with a file that is gone."""
    Segment('rig').close()
    with opened(Path(os.environ['IBLBRIDGE_DIR'], 'rig')) as file:
        doctor.clean('rig')
        file.seek(12)
        assert file.read(4) == struct.pack('=I', 2), 'SEGMENT_REPLACED'
    with pytest.raises(BridgeError, match='no segment'):
        doctor.clean('rig')


def test_foreign_files_are_left_alone(capsys, segment_directory):
    (segment_directory / 'notes.txt').write_text('buy milk')
    (segment_directory / 'my notes').write_text('not a name of ours')
    (segment_directory / '.hidden').write_text('nor this')
    (segment_directory / 'folder').mkdir()
    if not WINDOWS:  # a link takes a right there that few have
        (segment_directory / 'link').symlink_to('notes.txt')
    before = files(segment_directory)
    status, said = doctor_says(capsys, '--clean')
    assert (status, said['removed']) == (1, [])
    assert said['ignored'] == sorted(before - {'notes.txt'})
    assert [report['kind'] for report in said['segments']] == ['foreign']
    assert [row['name'] for row in said['left']] == ['notes.txt']
    assert files(segment_directory) == before and (segment_directory / 'notes.txt').read_text() == 'buy milk'


@pytest.mark.parametrize(
    ('offset', 'content', 'said'),
    [
        (8, b'\x63\0\0\0', 'layout 99'),
        (24, b'\xff' * 8, 'damaged'),
        (48, b'\xff\xff\xff\x7f', 'damaged'),
        (12, b'\x09', 'no known state'),
        (12, b'\x02', 'retired'),
        (72, b'another-boot', 'earlier boot'),
    ],
)
def test_a_damaged_or_old_segment_is_told_with_the_reason_and_removed_if_nobody_holds_it(
    capsys, segment_directory, offset, content, said
):
    segment = Segment('rig')
    client = Client('rig')
    write(segment_directory / 'rig', offset, content)
    status, seen = doctor_says(capsys, '--clean')
    assert (status, seen['removed']) == (1, []) and said in seen['segments'][0]['findings'][0]
    segment.close()
    assert doctor_says(capsys, '--clean')[1]['removed'] == [], 'the client still holds it'
    client.close()
    assert doctor_says(capsys, '--clean')[1]['removed'] == ['rig']


@pytest.mark.parametrize('size', [0, 100, 5000, 30_000])
def test_a_segment_cut_short_is_told_and_read_without_harm(capsys, segment_directory, size):
    Segment('rig').close()
    os.truncate(segment_directory / 'rig', size)
    status, seen = doctor_says(capsys)
    (report,) = seen['segments']
    assert (status, report['bytes'], report['size'], report['slots']) == (1, size, 0, [])
    assert report['code'] < 0 and report['findings']


@pytest.mark.posix('is about the mode of a file; on Windows its folder decides')
def test_a_file_that_cannot_be_trusted_is_told_and_left(capsys, segment_directory):
    Segment('rig').close()
    (segment_directory / 'rig').chmod(0o666)
    status, seen = doctor_says(capsys, '--clean')
    assert (status, seen['removed']) == (1, []) and 'everybody can write' in seen['segments'][0]['findings'][0]


def test_a_directory_that_cannot_be_trusted_is_told(capsys, segment_directory):
    let_everybody_write(segment_directory)
    assert main(['doctor', '--clean']) == 1
    assert 'Everybody can write' in capsys.readouterr().err
    if not WINDOWS:
        segment_directory.chmod(0o700)


def test_what_a_killed_maker_left_half_made_is_removed_and_what_is_being_made_is_not(capsys, segment_directory):
    (segment_directory / HALF_MADE).write_bytes(bytes(100))
    with Segment('making') as making:
        os.link(making.path, segment_directory / '.making.fedcba9876543210')
        status, said = doctor_says(capsys)
        assert [(r['kind'], bool(r['findings'])) for r in said['segments'][:2]] == [
            ('half-made', False),
            ('half-made', True),
        ]
        status, said = doctor_says(capsys, '--clean')
        assert (status, said['removed']) == (0, [HALF_MADE])
        assert files(segment_directory) == {'making', '.making.fedcba9876543210'}


def test_a_new_worker_removes_what_makers_of_its_own_segment_left_half_made(segment_directory):
    others = {'.rig.0123456789abcde', '.rig2.0123456789abcdef', '.rig.ABCDEF0123456789', 'rig.0123456789abcdef'}
    for name in (HALF_MADE, *others):
        (segment_directory / name).write_bytes(bytes(100))
    Segment('rig').close()
    assert files(segment_directory) == {'rig', *others}
    (segment_directory / HALF_MADE).write_bytes(bytes(100))
    Segment('rig').close()
    assert files(segment_directory) == {'rig', *others}, 'also when it adopts'


def test_text_of_others_cannot_move_the_cursor(capsys, segment_directory):
    with Segment('rig'), Client('rig', 'x'):
        write(segment_directory / 'rig', SLOTS_OFFSET + 40, 'a\x1b[2J\x9b\x7f\u202eb'.encode() + b'\xff\0')
        main(['doctor'])
        shown = capsys.readouterr().out
        assert 'a?[2J??' in shown and not set('\x1b\x9b\x7f\u202e') & set(shown)


def test_a_program_with_another_library_is_told_and_whether_it_has_to_be_started_anew(capsys, monkeypatch):
    with Segment('rig'), Client('rig', 'stimulus'):
        for is_gone, says in ((False, ', version 0.0.9'), (True, ', which was replaced or removed since')):
            monkeypatch.setattr(told, 'loaded_by', lambda pid: {'/lab/libiblbridge.so': is_gone})  # noqa: B023
            monkeypatch.setattr(told, 'version_of', lambda path: '0.0.9')
            assert main(['doctor']) == 0
            assert f'rig: stimulus has loaded /lab/libiblbridge.so{says}' in capsys.readouterr().out


def test_a_segment_that_another_version_has_made_is_told(capsys, segment_directory):
    with Segment('rig'):
        write(segment_directory / 'rig', 68, struct.pack('=I', 9))
        assert main(['doctor']) == 0
        assert 'rig was made by version 0.0.9, this is' in capsys.readouterr().out


@pytest.mark.posix('the manual is beside the sources alone')
def test_what_is_printed_as_json_has_these_keys(capsys):
    """They are in the manual; scripts rely on them."""
    with Segment('rig') as segment, Client('rig', 'stimulus'):
        segment.publish_services(['cameras'])
        main(['doctor', '--json', '--service', f'cameras=127.0.0.1:{free_port()}'])
    said = json.loads(capsys.readouterr().out)
    manual = (Path(__file__).parents[2] / 'bridge' / 'README.md').read_text('utf-8')
    section = manual.partition('`doctor --json`')[2].partition('## ')[0]
    (report,), (service,) = said['segments'], said['asked']
    for keys in (said, report, report['slots'][0], report['worker'], service, said['surroundings']):
        assert [key for key in keys if f'`{key}`' not in section] == []


def test_misuse_is_told_apart(capsys, monkeypatch):
    assert main(['doctor', '--unheard-of']) == 2
    monkeypatch.setenv('IBLBRIDGE_DIR', '/tmp/' + 'x' * 600)
    assert main(['doctor']) == 2


def test_a_directory_that_cannot_be_made_is_not_well(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / 'missing' / 'segments'))
    status, said = doctor_says(capsys)
    assert status == 1 and not said['healthy']
    assert main(['doctor']) == 1
    assert f'there is no folder {tmp_path / "missing"}. Make it' in capsys.readouterr().out


@pytest.mark.posix('says of a process that it is stopped; Windows does not')
def test_a_worker_that_is_stopped_is_told_though_it_lives(capsys):
    with program(WORKER, 'rig') as worker:
        stop(worker)
        status, said = doctor_says(capsys)
        (finding,) = said['segments'][0]['findings']
        assert status == 1 and f'kill -CONT {worker.pid}' in finding
        go_on(worker)
        assert eventually(lambda: doctor_says(capsys)[0] == 0)


@pytest.mark.posix('names the modes of folders')
def test_nobody_is_told_to_change_or_remove_what_others_need(capsys, monkeypatch, tmp_path):
    shared = tmp_path / 'like-tmp'
    shared.mkdir()
    shared.chmod(0o1777)
    for place, says in ((shared, 'directory of your own'), (Path('/etc/passwd'), 'is not a directory')):
        monkeypatch.setenv('IBLBRIDGE_DIR', str(place))
        assert main(['doctor']) == 1
        said = capsys.readouterr().err
        assert says in said and 'chmod' not in said and 'Remove' not in said

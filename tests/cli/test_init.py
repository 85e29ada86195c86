"""``iblbridge init`` and what ``doctor --services`` asks: each service is tried, and the file says what it said."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import ScriptedPeer, StockServer, free_port, only_echo

from bridge import config
from bridge.addresses import is_address
from bridge.cli import init, main
from bridge.cli.doctor import clocks, probe
from bridge.cli.doctor.probe import ADVICE, answer
from bridge.config import ServiceConfig
from bridge.numbers import MESSAGES
from bridge.outcome import Outcome, Reason

TODAY = date(2026, 1, 31)


def dead_uri() -> str:
    return f'udp://127.0.0.1:{free_port()}'


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(probe.ask, '__defaults__', (0.3,))


def test_a_rig_is_begun_and_what_is_written_can_be_served(server, tmp_path, capsys):
    file = tmp_path / 'my rig.yaml'
    assert main(['init', str(file), '--service', f'cameras={server.uri}', '--segment', 'rig7']) == 0
    said = capsys.readouterr().out
    assert f'  cameras: {server.uri}: CONNECTED, ' in said
    assert f'iblbridge serve --segment rig7 --services "{file}" --journal rig7.jsonl --journal-rotate day' in said
    assert [(one.name, one.uri) for one in config.load_services(file).values()] == [('cameras', server.uri)]
    assert '# CONNECTED' in file.read_text('utf-8')


@pytest.mark.not_wine('a socket that is not connected is not told that nobody listens')
def test_a_service_that_does_not_answer_is_written_all_the_same_and_said(server, tmp_path, capsys):
    file, dead = tmp_path / 'rig.yaml', dead_uri()
    words = ['--service', f'cameras={server.uri}', '--service', f'ephys={dead}', '--service', 't=ws://127.0.0.1:1']
    assert main(['init', str(file), *words]) == 1
    said = capsys.readouterr().out
    assert f'! ephys: {dead} refused the command: no service listens there. Its computer is there' in said
    assert 'did not answer: ephys, t\n' in said
    assert list(config.load_services(file)) == ['cameras', 'ephys', 't']


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ([], 'no service was named'),
        (['--service', 'cameras'], 'cameras=192.168.0.8'),
        (['--segment', 'my rig;x', '--service', 'a=127.0.0.1'], 'names no segment'),
        (['--service', 'a=127.0.0.1', '--service', 'b=127.0.0.1'], 'the same address'),
        (['--service', 'a=127.0.0.1', '--service', 'a=127.0.0.2'], 'a'),
    ],
)
def test_what_cannot_be_a_rig_is_refused_and_nothing_is_written(tmp_path, capsys, monkeypatch, words, sentence):
    def no_more(_):
        raise EOFError

    monkeypatch.setattr('builtins.input', no_more)
    assert main(['init', str(tmp_path / 'rig.yaml'), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('force', [True, False])
def test_a_file_is_overwritten_only_if_that_was_said_and_a_folder_never(server, tmp_path, capsys, force):
    (tmp_path / 'file').write_text('mine: 192.168.0.8')
    (tmp_path / 'folder').mkdir()
    words = ['--service', f'cameras={server.uri}', *['--force'] * force]
    assert main(['init', str(tmp_path / 'folder'), *words]) == 2
    assert main(['init', str(tmp_path / 'file'), *words]) == (0 if force else 2)
    assert ('mine' in (tmp_path / 'file').read_text()) is not force


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('page.html', b'<html>[</html>'),
        ('experiment.py', b'import bridge\n'),
        ('package.json', b'{"name": "lab", "scripts": {}}'),
        ('rig.yaml', b'[1, 2]\n'),
        ('rig.yaml', b'\xff\xfe\x00picture'),
        ('notes.yml', b'cameras: [\n'),
    ],
)
def test_what_is_no_file_of_services_is_not_overwritten_whatever_is_said(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert main(['init', str(tmp_path / name), '--service', 'a=127.0.0.1:9', '--force']) == 2
    assert 'something else than a file of services' in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize('content', ['', '# nothing\n', 'cameras: 192.168.0.8\n', 'cameras: {timeuot: 5}\n'])
def test_a_file_of_services_may_be_written_anew_also_if_something_in_it_is_wrong(tmp_path, content):
    (tmp_path / 'rig.yaml').write_text(content)
    assert init.is_begun(tmp_path / 'rig.yaml')


ADDRESSES = ['192.168.0.8', '192.168.0.8:11001', '::1', '[::1]:11001', 'udp://cameras:11001', ' 127.0.0.1 ']


@pytest.mark.parametrize('address', ADDRESSES)
def test_an_address_where_a_name_should_stand_is_said_at_once(tmp_path, capsys, address):
    answers, refused = iter([address, 'cameras', '127.0.0.1', '']), []
    assert list(init.ask(lambda _: next(answers), refused.append)) == ['cameras']
    assert len(refused) == 1 and 'is an address' in refused[0]
    assert main(['init', str(tmp_path / 'rig.yaml'), '--service', f'{address}=cameras']) == 2
    assert 'is an address where a name should stand' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['cameras', 'camera-1', '1', '10.0', 'cam:1', 'éphys', 'a.b.c.d', '192.168.0'])
def test_a_name_is_no_address_only_because_it_has_dots_or_digits(name):
    assert not is_address(name)


@pytest.mark.parametrize('name', ['', 'absent/rig.yaml'])
def test_a_file_that_cannot_be_written_is_refused_before_anybody_is_asked(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('builtins.input', lambda _: pytest.fail('nobody is to be asked'))
    assert main(['init', name]) == 2
    assert capsys.readouterr().err.startswith('iblbridge init: ')


def test_questions_are_asked_until_a_name_is_empty_and_a_wrong_answer_costs_only_itself():
    answers = iter(['cameras', '127.0.0.1', 'ephys', '127.0.0.1', 'ephys', '127.0.0.1:x', 'ephys', '127.0.0.1:2', ' '])
    refused: list[str] = []
    services = init.ask(lambda _: next(answers), refused.append)
    assert [(one.name, one.uri) for one in services.values()] == [
        ('cameras', 'udp://127.0.0.1:11001'),
        ('ephys', 'udp://127.0.0.1:2'),
    ]
    assert len(refused) == 2


@given(
    st.dictionaries(
        st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Zl', 'Zp']), min_size=1, max_size=20)
        | st.sampled_from(['no', 'on', 'null', '1', '1.5', 'a: b', '- a', '#', '"', "'", '2026-01-01', '{a}']),
        st.text(max_size=30),
        min_size=1,
        max_size=5,
    )
)
def test_any_name_and_any_sentence_can_be_written_and_read(tmp_path_factory, said):
    services = {}
    for number, name in enumerate(said):
        try:
            service = config.parse_service_option(f'{name}=127.0.0.1:{number + 1}')
        except config.ConfigError:
            continue
        services[service.name] = service
    answers = {name: answer(Outcome(name, error=text)) for name, text in zip(services, said.values(), strict=False)}
    file = tmp_path_factory.mktemp('init') / 'rig.yaml'
    file.write_text(init.text(services, answers, TODAY), 'utf-8')
    assert config.load_services(file) == services


@pytest.mark.parametrize('reason', [reason for reason in Reason if reason is not Reason.NONE])
def test_an_advice_is_one_sentence(reason):
    for error in ('It did not.', 'it did not', 'did it?'):
        found = answer(Outcome('x', reason=reason, error=error))
        line = probe.line(ServiceConfig('x', 'udp://1.2.3.4:5'), found)
        assert (
            not found.ok and not {'..', '?.', '.?'} & {line[i : i + 2] for i in range(len(line))} and line[-1] in '.?'
        )
        assert bool(found.advice) == (reason in ADVICE)


def test_a_service_that_hears_and_does_not_answer_is_told_from_one_that_is_not_there(impatient):
    with ScriptedPeer(only_echo) as mute, ScriptedPeer(lambda *_: None) as deaf:
        services = {'mute': ServiceConfig('mute', mute.uri), 'deaf': ServiceConfig('deaf', deaf.uri)}
        found = probe.ask(services)
    assert found['mute'].advice.startswith('It has the question')
    assert found['deaf'].advice.startswith('Is its computer on')


def test_nobody_is_asked_anything_that_starts_or_ends_something(server):
    assert probe.ask({'cameras': ServiceConfig('cameras', server.uri)})['cameras'].ok
    assert [event for event, *_ in server.saw] == [MESSAGES['EXPINFO']]


@pytest.mark.parametrize(
    ('reply', 'seconds'),
    [
        ([0, {'wall': '1970-01-01T00:01:00.5+00:00'}], 60.5),
        ([0, {'wall': '1970-01-01T01:01:00Z'}], 3660.0),
        ([0, {'wall': '1970-01-01T02:01:00+02:00'}], 60.0),
        ([0, {'wall': '1970-01-01T00:01:00'}], None),  # of which zone?
        ([0, {'wall': 'noon'}], None),
        ([0, {'wall': 5}], None),
        ([0, {}], None),
        ([0], None),
        (None, None),
    ],
)
def test_a_clock_is_read_from_what_expinfo_says_if_it_says_it(reply, seconds):
    assert clocks.told(reply) == seconds


@pytest.mark.parametrize(
    ('offset', 'doubt', 'said'),
    [
        (0.0, 0.0, ''),
        (0.02, 0.05, ''),
        (0.2, 0.05, 'its clock is 200 ms ahead of ours'),
        (-90.0, 0.05, 'its clock is 90.0 s behind ours'),
    ],
)
def test_a_clock_is_ahead_or_behind_only_by_more_than_one_can_tell(offset, doubt, said):
    assert clocks.sentence(offset, doubt) == said
    assert clocks.ahead(100.0 + offset, 100.0 - doubt, 100.0 + doubt) == pytest.approx((offset, doubt))


@pytest.mark.parametrize(('seconds', 'status'), [(0, 0), (-3600, 1)])
def test_a_service_whose_clock_is_wrong_by_far_is_something_to_do(capsys, monkeypatch, seconds, status):
    wall = (datetime.now().astimezone() + timedelta(seconds=seconds)).isoformat()
    with StockServer(answers={MESSAGES['EXPINFO']: [0, {'exp_ref': None, 'wall': wall}]}) as server:
        assert main(['doctor', '--service', f'cameras={server.uri}']) == status
    said = capsys.readouterr().out
    assert ('behind ours. Have both computers set their clocks by the network' in said) == bool(status)


def test_what_a_name_stands_for_is_told(server):
    port = server.uri.rpartition(':')[2]
    found = probe.ask({'cameras': ServiceConfig('cameras', f'udp://localhost:{port}')})['cameras']
    assert found.ok and '127.0.0.1' in found.addresses
    assert '(127.0.0.1' in probe.line(ServiceConfig('cameras', f'udp://localhost:{port}'), found)
    assert probe.addresses_of({'a': 'udp://127.0.0.1:1', 'b': 'udp://no-such-host.invalid:1'}) == {}


def test_who_says_nothing_may_be_behind_a_firewall_and_what_to_type_there_is_told(capsys, impatient):
    with ScriptedPeer(lambda *_: None) as deaf:
        assert main(['doctor', '--service', f'deaf={deaf.uri}']) == 1
        port = deaf.uri.rpartition(':')[2]
        assert f'ufw allow {port}/udp' in capsys.readouterr().out


@pytest.mark.not_wine('a socket that is not connected is not told that nobody listens')
def test_doctor_asks_the_services_that_it_is_given(server, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp('apart')  # not among the segments
    file, dead = folder / 'rig.yaml', dead_uri()
    file.write_text(f'cameras: {server.uri}\n')
    assert main(['doctor', '--services', str(file)]) == 0
    assert f'service cameras: {server.uri}: CONNECTED, ' in capsys.readouterr().out
    assert main(['doctor', '--services', str(file), '--service', f'ephys={dead}', '--json']) == 1
    asked = json.loads(capsys.readouterr().out)['asked']
    assert [(one['name'], one['ok']) for one in asked] == [('cameras', True), ('ephys', False)]
    assert asked[1]['advice'] == 'Its computer is there: start the service, or correct the port.'
    assert main(['doctor', '--services', str(folder / 'absent')]) == 2

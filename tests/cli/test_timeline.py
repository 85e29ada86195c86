"""A journal as a picture: what is drawn, that nothing in a journal is taken for markup, and that the page draws."""

from __future__ import annotations

import html.parser
import json
import random
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import main
from bridge.cli.journal.experiments import experiment, reference_of
from bridge.cli.journal.selection import select, until
from bridge.cli.journal.summary import ALL, percentile, summarize
from bridge.cli.journal.timeline import PROGRAMS, page, picture
from bridge.cli.lines import details, head, line
from bridge.numbers import EVENTS

NAMES = ('cameras', 'ephys')
BEGIN = datetime(2026, 1, 1, 8, tzinfo=timezone.utc)
HOSTILE = '</script><script>alert(1)</script><!--"\'&\u2028\\'


class Writer:
    """Writes entries as a worker does, with a clock that is moved by hand.

    Parameters
    ----------
    boot : int
        What the segment's clock says at `BEGIN`, ns.
    """

    def __init__(self, boot: int = 5 * 10**12, names=NAMES) -> None:
        self.entries: list[dict] = []
        self.boot, self.now, self.count = boot, 0.0, 0
        self.add('start', segment='rig0', services=[{'name': name, 'uri': f'udp://{name}'} for name in names])

    def stamp(self, after: float = 0.0) -> int:
        return self.boot + round((self.now + after) * 1e9)

    def add(self, kind: str, **entry) -> None:
        wall = (BEGIN + timedelta(seconds=self.now)).isoformat(timespec='milliseconds')
        self.entries.append({'kind': kind, **entry, 'time': self.stamp(), 'wall': wall})

    def command(self, message: str, *args, failing=(), took: float = 0.01, status: int = -1, client: str = 'stimulus'):
        """Write a command and its outcome; the services in `failing` do not echo."""
        self.count += 1
        about = {'command_id': f'{self.boot:016x}-00-{self.count}', 'message': message, 'client': client}
        sent = self.stamp()
        self.add('command', **about, services='', args=list(args), sent=sent)
        services = [
            {
                'name': name,
                'ok': name not in failing,
                'state': 'unreachable' if name in failing else 'answered',
                'error': 'nothing came back' if name in failing else '',
                'data': {} if name in failing else {'value': message},
                'status': status,
                'sent': self.stamp(0.001),
                'echoed': 0 if name in failing else self.stamp(0.002),
                'answered': 0 if name in failing else self.stamp(0.003),
            }
            for name in NAMES
        ]
        self.now += took
        code = -8070 if failing else 0
        self.add('outcome', **about, code=code, error='', services=services, sent=sent, finished=self.stamp())
        self.now += 1


def test_each_command_is_a_bar_in_the_programs_lane_and_a_part_in_each_services():
    journal = Writer()
    journal.now = 1.0
    journal.command('EXPSTART', 'a reference', failing=['ephys'], status=20)
    drawn = picture(journal.entries)
    assert drawn.lanes == [PROGRAMS, 'cameras', 'ephys']
    assert drawn.zero == BEGIN.timestamp()
    (bar,) = drawn.bars
    assert (bar.sent, bar.finished, bar.mark, bar.said) == (1.0, 1.01, '!', 'IBLB_E_PARTIAL')
    assert (bar.message, bar.client, bar.args) == ('EXPSTART', 'stimulus', '["a reference"]')
    cameras, ephys = bar.parts
    assert (cameras.lane, cameras.sent, cameras.echoed, cameras.answered) == (1, 1.001, 1.002, 1.003)
    assert (ephys.lane, ephys.ok, ephys.echoed, ephys.said) == (2, False, None, 'nothing came back')


def test_a_command_without_an_outcome_is_drawn_and_says_so():
    journal = Writer()
    journal.command('EXPSTART')
    (bar,) = picture(journal.entries[:-1]).bars
    assert (bar.finished, bar.mark, bar.parts) == (None, '~', [])
    assert 'no answer' in bar.said


def test_events_stand_in_the_lane_of_their_service_and_the_others_in_the_programs():
    journal = Writer()
    journal.add('event', event='SERVICE_DOWN', service='ephys', client='', data={'value': 'silent'})
    journal.add('event', event='CLIENT_LOST', service='', client='stimulus', data={})
    journal.add('gap', lost=3)
    journal.add('stop', reason='SIGINT')
    signs = [(sign.lane, sign.kind, sign.mark) for sign in picture(journal.entries).signs]
    assert signs == [
        (0, 'start', ' '),
        (2, 'SERVICE_DOWN', '!'),
        (0, 'CLIENT_LOST', '!'),
        (0, 'gap', '!'),
        (0, 'stop', ' '),
    ]


def test_what_a_master_asks_of_a_program_is_a_bar_in_the_lane_of_its_listener():
    journal = Writer()
    about = {'command_id': 'x-scope-1-1', 'message': 'EXPSTART', 'service': 'scope', 'master': '1.2.3.4:5'}
    journal.add('asked', **about, args=['a reference'])
    journal.now = 0.5
    journal.add('replied', **about, ok=False, error='Camera 2 does not answer.', data=[])
    drawn = picture(journal.entries)
    (bar,) = drawn.bars
    assert (bar.client, bar.sent, bar.finished, bar.mark) == ('1.2.3.4:5', 0.0, 0.5, '!')
    (part,) = bar.parts
    assert (drawn.lanes[part.lane], part.ok, part.said) == ('scope', False, 'Camera 2 does not answer.')
    (bar,) = picture(journal.entries[:-1]).bars
    assert (bar.finished, bar.parts, bar.mark) == (None, [], '~')


def test_an_experiment_that_is_lost_is_told_as_a_sentence():
    lost = {'kind': 'event', 'event': 'EXPERIMENT_LOST', 'data': {'value': {'exp_ref': '2026-01-01_1_x', 'status': 0}}}
    assert details(lost) == 'it does not run 2026-01-01_1_x any more; now it says CONNECTED'
    assert details({**lost, 'data': {'value': {'exp_ref': '', 'status': []}}}).endswith('now it says []')


@pytest.mark.parametrize('width', [70, 100, 140])
@pytest.mark.parametrize('event', EVENTS)
def test_an_event_of_any_name_shifts_no_column(event, width):
    """EXPERIMENT_LOST and SERVICES_CHANGED were longer than theirs."""
    shown = line({'kind': 'event', 'event': event, 'data': {'value': 'details'}}, width, fold=False)
    assert shown.index('details') == head(width).index('details')


def running(journal: Writer) -> list[tuple[str, float, float | None]]:
    drawn = picture(journal.entries)
    return [(drawn.lanes[run.lane], run.begin, run.end) for run in drawn.running]


def test_a_service_that_is_down_does_not_run_again_because_the_worker_remembers_its_status():
    """Every SERVICES of a page or of top drew it RUNNING, long after it was dead."""
    journal = Writer()
    journal.command('EXPSTART', status=20)
    journal.add('event', event='SERVICE_DOWN', service='cameras', client='', data={'value': 'silent'})
    journal.now += 1
    journal.command('SERVICES', status=20)
    for one in journal.entries[-1]['services']:
        one.update(state='not_sent', sent=0, echoed=0, answered=0)
    assert running(journal) == [('cameras', 0.003, 1.01), ('ephys', 0.003, None)]
    journal.add('reload', ok=True, added=[], removed=['ephys'], changed=[])
    assert running(journal)[1] == ('ephys', 0.003, pytest.approx(journal.now))


@pytest.mark.parametrize('end', ['EXPEND', 'dead', 'told'])
def test_a_listener_runs_from_its_reply_until_it_says_otherwise_or_nobody_serves_it(end):
    journal = Writer()
    about = {'service': 'scope', 'master': '1.2.3.4:5', 'ok': True, 'error': ''}
    journal.add('replied', **about, command_id='1', message='EXPSTART', data=['a reference', {'status': 20}])
    journal.now = 2.0
    journal.add('replied', **about | {'ok': False}, command_id='2', message='EXPEND', data=[])
    assert running(journal) == [('scope', 0.0, None)]
    if end == 'EXPEND':
        journal.add('replied', **about, command_id='3', message='EXPEND', data=['a reference', {'status': 30}])
    elif end == 'dead':
        journal.add('served', service='scope', client='', pid=0, error='it has ended')
    else:
        journal.add('event', event='EXPINTERRUPT', service='scope', client='', data={'value': {'status': 30}})
    assert running(journal) == [('scope', 0.0, 2.0)]


def test_both_pictures_have_what_was_running_and_the_png_draws_it_to_its_end():
    timeline_png = pytest.importorskip('bridge.cli.journal.timeline_png', reason='matplotlib is not installed')
    journal = Writer()
    journal.command('EXPSTART', status=20)
    journal.command('EXPSTATUS')
    drawn = picture(journal.entries)
    assert timeline_png.spans_of_running(drawn) == [(1, 0.003, 1.02), (2, 0.003, 1.02)]
    assert len(json.loads(picture_of(page(drawn, 'x', [])))['running']) == 2


def test_a_restart_of_the_computer_begins_its_clock_anew_and_not_the_picture():
    first, second = Writer(), Writer(boot=10**9)
    first.command('EXPSTART')
    second.now = 100.0
    second.command('EXPEND')
    for entry in second.entries:  # of the day after
        entry.update(wall=(datetime.fromisoformat(entry['wall']) + timedelta(days=1)).isoformat())
    drawn = picture([*first.entries, *second.entries])
    assert [bar.sent for bar in drawn.bars] == [0.0, 86500.0]


def test_stamps_are_placed_exactly_although_the_wall_has_milliseconds_only():
    journal = Writer()
    journal.now = 0.0004
    journal.command('EXPSTART', took=0.0003)
    (bar,) = picture(journal.entries).bars
    assert round((bar.finished - bar.sent) * 1e6) == 300


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just('2026-01-01T08:00:00+00:00'),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ['command_id', 'message', 'client', 'services', 'args', 'sent', 'finished', 'code', 'error', 'event', 'service']
    + ['data', 'time', 'wall', 'lost', 'reason', 'version', 'pid', 'rig', 'removed']
)
SERVICE = st.dictionaries(
    st.sampled_from(['name', 'ok', 'state', 'error', 'data', 'status', 'sent', 'echoed', 'answered', 'uri']), ANYTHING
)
ENTRY = st.builds(
    lambda kind, entry, services: {**entry, **({'services': services} if services else {}), 'kind': kind},
    st.sampled_from(
        [
            'start',
            'stop',
            'command',
            'outcome',
            'notification',
            'event',
            'gap',
            'asked',
            'replied',
            'served',
            'reload',
            'other',
        ]
    ),
    st.dictionaries(KEYS, ANYTHING),
    st.lists(SERVICE, max_size=2),
)


@given(st.lists(ENTRY, max_size=4))
def test_whatever_a_file_says_it_is_drawn_summed_up_and_selected(entries):
    wanted = Namespace(reference='x', since=None, until=None, failures=True)
    list(select(entries, wanted))
    text = page(picture(entries), 'x', summarize(entries))
    assert text.isascii()
    json.loads(picture_of(text), parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))


class _Page(html.parser.HTMLParser):
    """Collects the tags of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == 'script':
            self.scripts.append('')

    def handle_data(self, data):
        if self.tags and self.tags[-1] == 'script':
            self.scripts[-1] += data


def picture_of(text: str) -> str:
    return _Page(text).scripts[0]


def test_what_services_and_programs_say_is_never_markup():
    journal = Writer(names=(HOSTILE,))
    journal.command(HOSTILE, HOSTILE, client=HOSTILE)
    journal.entries[-1]['services'][0] |= {'name': HOSTILE, 'error': HOSTILE, 'state': HOSTILE, 'data': {HOSTILE: 1}}
    journal.add('event', event=HOSTILE, service=HOSTILE, client=HOSTILE, data={'value': HOSTILE})
    harmless = Writer(names=('x',))
    harmless.command('x', 'x', client='x')
    harmless.add('event', event='x', service='x', client='x', data={'value': 'x'})
    hostile, plain = (
        _Page(page(picture(w.entries), title, summarize(w.entries)))
        for w, title in ((journal, HOSTILE), (harmless, 'x'))
    )
    assert set(hostile.tags) == set(plain.tags)
    assert hostile.tags.count('script') == 2
    assert hostile.scripts[1] == plain.scripts[1], 'the program is the same, whatever the picture is'


STUB = """
const fs = require('fs');
const text = fs.readFileSync(process.argv[2], 'utf-8');
const [data, program] = [...text.matchAll(/<script[^>]*>([^]*?)<\\/script>/g)].map(found => found[1]);
let drawn = 0, right = 0, listeners = {};
const measure = t => ({width: 7 * t.length}), draw = () => { drawn++; };
const write = (t, x) => { drawn++; if (!/^[0-9]/.test(t)) right = Math.max(right, x + 7 * t.length); };
const methods = {measureText: measure, fillText: write};
const context = new Proxy({}, {get: (_, name) => methods[name] ?? draw, set: () => true});
const thing = id => ({textContent: id === 'picture' ? data : '', style: {}, clientWidth: 1000,
                      getContext: () => context, setPointerCapture() {},
                      addEventListener: (name, f) => { listeners[name] = f; }});
const made = {};
global.document = {documentElement: {}, getElementById: id => made[id] ??= thing(id)};
global.window = {devicePixelRatio: 1, addEventListener() {}};
global.getComputedStyle = () => ({getPropertyValue: () => 'black'});
global.matchMedia = () => ({addEventListener() {}});
(0, eval)(program);
const said = [];
for (let x = 0; x < 1000; x += 3) {
  listeners.pointermove({offsetX: x, offsetY: 26 + 46 + 30});
  said.push(made.said.textContent);
}
for (const key of ['+', '-', 'ArrowLeft', 'ArrowRight', 'Home']) listeners.keydown({key, preventDefault() {}});
listeners.wheel({deltaY: 1, offsetX: 500, preventDefault() {}});
listeners.dblclick({});
made.next.onclick(); said.push(made.said.textContent);
console.log(JSON.stringify({drawn, right, said: [...new Set(said)]}));
"""


@pytest.mark.languages
@pytest.mark.parametrize('commands', [0, 1, 10_000])
def test_the_page_draws_and_tells_what_is_pointed_at(tmp_path, commands):
    if shutil.which('node') is None:
        pytest.skip('node is not installed')
    journal, random_ = Writer(), random.Random(1)
    for _ in range(commands):
        journal.command(random_.choice(['EXPSTATUS', 'EXPSTART', 'EXPEND']), failing=['ephys'], status=20)
    journal.add('event', event='EXPERIMENT_LOST', service='cameras', data={})
    (tmp_path / 'stub.js').write_text(STUB)
    (tmp_path / 'page.html').write_text(page(picture(journal.entries), 'x', summarize(journal.entries)))
    done = subprocess.run(
        ['node', 'stub.js', 'page.html'], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr and done.returncode == 0
    told = json.loads(done.stdout)
    assert told['drawn'] > commands
    assert told['right'] <= 1000, 'a name is cut off'
    texts = '\n'.join(told['said'])
    assert ('cameras: answered. sent 08:00:00.001, echoed +1.0 ms, answered +2.0 ms' in texts) == (commands > 0)
    assert ('ephys: unreachable, failed' in texts or 'IBLB_E_PARTIAL' in texts) == (commands > 0)


def test_one_experiment_is_found_by_its_reference_with_what_came_within():
    journal = Writer()
    journal.command('EXPSTATUS')
    journal.command('EXPINIT')
    journal.command('EXPSTART', 'first')
    journal.add('event', event='EXPINTERRUPT', service='ephys', client='', data={})
    journal.command('EXPCLEANUP')
    journal.command('EXPSTATUS')
    journal.command('EXPINIT', {'exp_ref': 'second'})
    journal.command('EXPSTART', 'second')
    journal.command('EXPINIT', 'third')

    def messages(reference):
        return [e['message'] for e in experiment(journal.entries, reference) if e['kind'] == 'command']

    assert messages('first') == ['EXPINIT', 'EXPSTART', 'EXPCLEANUP']
    assert messages('second') == ['EXPINIT', 'EXPSTART']
    assert messages('none of them') == []
    assert sum(e['kind'] == 'event' for e in experiment(journal.entries, 'first')) == 1
    assert sum(e['kind'] == 'outcome' for e in experiment(journal.entries, 'first')) == 3


@pytest.mark.parametrize(
    ('args', 'reference'),
    [
        (['2026-01-01_1_x', {}], '2026-01-01_1_x'),
        ([{'date': '2026-01-01', 'sequence': 1, 'subject': 'x'}], '2026-01-01_1_x'),
        ([{'exp_ref': '2026-01-01_1_x'}], '2026-01-01_1_x'),
        ([{'exp_ref': {'date': '2026-01-01', 'sequence': 1, 'subject': 'x'}}], '2026-01-01_1_x'),
        ([{'note': 1}], ''),
        ([], ''),
        (None, ''),
        ([None], ''),
    ],
)
def test_the_reference_is_found_in_every_form_that_commands_have(args, reference):
    assert reference_of(args) == reference


def test_what_came_before_a_moment_can_be_chosen_and_it_may_be_still_to_come():
    journal = Writer()
    journal.command('EXPINIT')
    journal.command('EXPSTART')
    wanted = Namespace(reference=None, since=None, until=until('2026-01-01T08:00:00.500+00:00'), failures=False)
    assert [e['message'] for e in select(journal.entries, wanted) if e['kind'] == 'outcome'] == ['EXPINIT']
    assert until('2999-01-01').year == 2999


def test_a_summary_has_a_row_for_each_message_and_each_of_its_services():
    journal = Writer()
    for _ in range(3):
        journal.command('EXPSTART', failing=['ephys'], took=0.02)
    rows = [row.cells() for row in summarize(journal.entries)]
    assert rows == [
        ('EXPSTART', ALL, '3', '3', '20.0', '20.0'),
        ('EXPSTART', 'cameras', '3', '0', '2.0', '2.0'),
        ('EXPSTART', 'ephys', '3', '3', '', ''),
    ]


@pytest.mark.parametrize(
    ('values', 'percent', 'found'), [([1], 99, 1), (range(1, 101), 99, 99), (range(1, 1001), 50, 500)]
)
def test_a_percentile_is_one_of_the_values(values, percent, found):
    assert percentile(list(values), percent) == found


@pytest.fixture
def journal(tmp_path):
    written = Writer()
    written.command('EXPSTART', '2026-01-01_1_x', failing=['ephys'])
    path = tmp_path / 'rig 0.jsonl'
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in written.entries))
    return path


def test_the_command_writes_a_page_and_does_not_overwrite_unasked(journal, tmp_path, capsys):
    place = tmp_path / 'a page.html'
    assert main(['journal', str(journal), '--timeline', str(place)]) == 0
    assert '1 command, 1 event' in capsys.readouterr().out
    assert 'rig 0.jsonl' in place.read_text()
    assert main(['journal', str(journal), '--timeline', str(place)]) == 2
    assert '--force' in capsys.readouterr().err
    assert main(['journal', str(journal), '--timeline', str(place), '--force']) == 0


@pytest.mark.parametrize('name', ['page', 'page.pdf', 'rig 0.jsonl', 'absent/page.html'])
def test_a_place_that_cannot_be_drawn_to_is_named(journal, tmp_path, capsys, name):
    before = journal.read_bytes()
    assert main(['journal', str(journal), '--timeline', str(tmp_path / name), '--force']) == 2
    assert Path(name).name in capsys.readouterr().err
    assert journal.read_bytes() == before


def test_the_picture_is_a_png(journal, tmp_path, capsys):
    pytest.importorskip('matplotlib', reason='matplotlib is not installed')
    place = tmp_path / 'a.png'
    assert main(['journal', str(journal), '--timeline', str(place)]) == 0
    assert place.read_bytes().startswith(b'\x89PNG\r\n')


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 20), st.integers(0, 3)), max_size=30))
def test_names_never_cover_each_other_and_none_is_left_out_that_has_room(found):
    timeline_png = pytest.importorskip('bridge.cli.journal.timeline_png', reason='matplotlib is not installed')
    spans = [(begin, begin + length, rank) for begin, length, rank in found]
    shown = timeline_png.free(spans)

    def covers(one: int, other: int) -> bool:
        return spans[one][0] < spans[other][1] and spans[other][0] < spans[one][1]

    assert not [(i, j) for i in shown for j in shown if i < j and covers(i, j)]
    for left in set(range(len(spans))) - set(shown):
        assert any(covers(left, i) and spans[i][2] <= spans[left][2] for i in shown)


def test_in_a_long_session_the_failure_and_the_starts_are_named_and_the_picture_says_what_is_not(tmp_path):
    """Above 60 commands it named none, and below it wrote names upon one another."""
    timeline_png = pytest.importorskip('bridge.cli.journal.timeline_png', reason='matplotlib is not installed')
    journal = Writer()
    for number in range(200):
        journal.now += 60
        if number % 50 == 0:
            journal.command('EXPINIT')
            journal.command('EXPSTART')
        journal.command('EXPSTATUS', failing=['ephys'] if number == 77 else ())
    drawn = picture(journal.entries)
    bars, signs = timeline_png.names(drawn)
    assert [bar.message for bar in bars].count('EXPSTART') == 4
    assert [bar.message for bar in bars if bar.mark == '!'] == ['EXPSTATUS']
    assert 10 < len(bars) < 60 and len(signs) == 1
    timeline_png.save(drawn, 'x', tmp_path / 'a.png')
    assert timeline_png.names(picture([])) == ([], [])
    timeline_png.save(picture([]), 'x', tmp_path / 'empty.png')


@pytest.mark.parametrize(('length', 'pattern'), [(0.4, r'08:00:00\.\d+'), (5, r'08:00:0\d'), (300, r'08:0\d')])
def test_the_times_of_the_axis_are_whole_however_short_the_session_is(length, pattern):
    """A session of some seconds had 02.5, 05.0 and so on below it."""
    timeline_png = pytest.importorskip('bridge.cli.journal.timeline_png', reason='matplotlib is not installed')
    locator = timeline_png.dates.AutoDateLocator(tz=timezone.utc)
    begin = BEGIN + timedelta(microseconds=length * 1e5)
    ticks = locator.tick_values(begin, begin + timedelta(seconds=length))
    shown = [text for text in timeline_png.clock(locator, timezone.utc).format_ticks(ticks) if text]
    assert shown and all(re.fullmatch(pattern, text) for text in shown), shown


def test_without_matplotlib_the_line_that_installs_it_is_told(journal, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'bridge.cli.journal.timeline_png', None)
    monkeypatch.delattr('bridge.cli.journal.timeline_png', raising=False)
    assert main(['journal', str(journal), '--timeline', str(tmp_path / 'a.png')]) == 2
    assert "pip install 'iblbridge[plot]'" in capsys.readouterr().err


def test_the_command_sums_up(journal, capsys):
    assert main(['journal', str(journal), '--summary']) == 0
    told = capsys.readouterr().out
    assert 'EXPSTART  cameras      1       0        2.0     2.0' in told

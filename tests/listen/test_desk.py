"""One listener in virtual time, against models of masters: what is asked, handed on, answered and said."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masters import HOP, MS, OurMaster, StockMaster, World

from bridge.listen import memory, rules
from bridge.listen.desk import MASTERS_MOST, WAITING_MOST, Desk
from bridge.listen.strangers import STRANGERS_MOST

INIT, START, END, CLEANUP, INTERRUPT, STATUS, INFO, ALYX = (1, 2, 4, 8, 16, 32, 64, 128)
KINDS = [StockMaster, OurMaster]
REF = '2026-01-01_1_subject'


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def both(request):
    world = World()
    return world, request.param(world)


def ask(world, master, event, *data):
    before = len(master.heard)
    master.command(event, *data)
    world.run_until(lambda: len(master.heard) > before)
    world.run(2 * MS)
    assert not master.closed
    return master.heard[before]


def test_an_experiment_is_answered_in_the_forms_of_iblrigs_services(both):
    world, master = both
    world.program.answer = lambda asked: {}
    ref = '2026-01-01_1_subject'
    assert ask(world, master, INFO, 0, {}) == [64, 0, {'exp_ref': None, 'main_sync': False, 'name': 'cameras'}]
    assert ask(world, master, INIT, {'exp_ref': ref}) == [1, 10, {'exp_ref': ref}]
    assert ask(world, master, START, ref, None) == [2, ref, {'status': 20}]
    assert ask(world, master, STATUS, 0) == [32, 20]
    assert ask(world, master, END, None) == [4, {'status': 30}]
    assert ask(world, master, CLEANUP, None) == [8, {'status': 0}]
    assert world.desk.is_quiet
    assert world.desk.memory.exp_ref is None


@pytest.mark.parametrize('event', [END, INTERRUPT, INIT, STATUS, INFO])
def test_one_that_asks_the_same_twice_in_a_row_is_answered_twice_and_the_program_does_it_once(both, event):
    world, master = both
    first = ask(world, master, event, None)
    world.run(600 * MS)
    assert ask(world, master, event, None) == first
    if isinstance(master, StockMaster):
        assert len(world.program.handed) == (2 if event in (STATUS, INFO) else 1)


def test_what_failed_is_tried_again_when_it_is_asked_again():
    world = World()
    master = StockMaster(world)
    world.program.fails = lambda asked: 'OSError: camera 2' if len(world.program.handed) == 1 else ''
    assert ask(world, master, START, 'ref', None)[0] == 0
    world.run(1000 * MS)
    assert ask(world, master, START, 'ref', None)[:2] == [2, 'ref']


def test_a_doubled_command_is_carried_out_once_and_starts_no_storm(both):
    world, master = both
    world.fate = lambda: [HOP, HOP + MS // 20]
    for event, data in [(INIT, [None]), (START, ['ref', None]), (STATUS, [0]), (END, [None]), (CLEANUP, [None])]:
        ask(world, master, event, *data)
        world.run(700 * MS)
    assert [asked.event for asked in world.program.handed] == [INIT, START, STATUS, END, CLEANUP]
    assert world.datagrams < 60


def test_a_copied_confirmation_is_never_a_command(both):
    world, master = both
    ask(world, master, START, 'ref', None)
    confirmation = next(iter(master.payloads))
    for _ in range(3):
        world.desk.received(confirmation, master.address, world.now)
        world.run(1000 * MS)
    after = Desk('cameras', world.program, memory.found(memory.to_keep(world.desk.memory, 0)))
    after.received(confirmation, master.address, world.now)
    assert after.next(world.now) is None
    assert [asked.event for asked in world.program.handed] == [START]


def test_nobody_serves_and_the_master_is_told_at_once(both):
    world, master = both
    world.program.is_there = False
    begun = world.now
    assert ask(world, master, START, 'ref', None) == [0, 'ConnectionError: no program serves cameras', START]
    assert world.now - begun < 10 * MS


def test_a_program_that_dies_with_a_command_in_hand_is_told_at_once(both):
    world, master = both
    world.program.work = lambda asked: 3000 * MS
    master.command(START, 'ref', None)
    world.run(500 * MS)
    world.program.die()
    world.run(MS)
    assert master.heard == [[0, 'ConnectionError: the program ended before it answered', START]]


def test_a_program_that_does_not_answer_is_taken_the_command_from(both):
    world, master = both
    world.program.work = lambda asked: None if asked.event == START else 20_000 * MS
    for event in (START, END):
        begun = world.now
        answer = ask(world, master, event, None, None)
        assert answer[0] == 0 and 'did not answer within 8 s' in answer[1]
        assert 7900 * MS < world.now - begun < 8100 * MS
    assert len(world.program.withdrawn) == 2
    assert world.desk.is_quiet


def test_an_answer_that_is_on_the_way_when_time_is_up_is_waited_for(both):
    world, master = both
    world.program.work = lambda asked: 8500 * MS
    world.program.withdraw = lambda asked: False
    assert ask(world, master, END, None)[0] == END


def test_a_second_start_is_refused_while_the_first_is_in_hand():
    world = World()
    first, second = StockMaster(world), OurMaster(world)
    world.program.work = lambda asked: 1000 * MS
    first.command(START, 'a', None)
    world.run(10 * MS)
    answer = ask(world, second, START, 'b', None)
    assert answer[0] == 0 and first.address[0] in answer[1] and 'in hand' in answer[1]
    world.run(2000 * MS)
    assert first.heard[0][:2] == [2, 'a'] and len(world.program.handed) == 1


def test_questions_are_answered_while_the_program_is_busy():
    world = World()
    first, second = StockMaster(world), OurMaster(world)
    world.desk.tell(INFO, {'cameras': 3}, world.now)
    world.program.work = lambda asked: 3000 * MS
    first.command(START, 'a', None)
    world.run(10 * MS)
    assert ask(world, second, STATUS, 0) == [32, 0]
    assert ask(world, second, INFO, 0, None)[2]['cameras'] == 3
    assert [asked.event for asked in world.program.handed] == [START]


def test_an_interrupt_overtakes_what_waits_and_is_handed_beside_what_is_taken():
    world = World()
    masters = [StockMaster(world, ('127.0.0.1', 5000 + n)) for n in range(3)]
    world.program.work = lambda asked: 2000 * MS if asked.event == START else MS
    masters[0].command(START, 'a', None)
    world.run(10 * MS)
    masters[1].command(END, None)
    world.run(10 * MS)
    masters[2].command(INTERRUPT, None)
    world.run(10 * MS)
    assert masters[1].heard[0][0] == 0 and 'EXPINTERRUPT' in masters[1].heard[0][1]
    assert masters[2].heard[0][0] == INTERRUPT
    world.run(3000 * MS)
    assert masters[0].heard[0][0] == START


def test_an_interrupt_takes_back_what_the_program_has_not_taken():
    world = World()
    first, second = StockMaster(world), OurMaster(world)
    world.program.work = lambda asked: None if asked.event == START else MS
    first.command(START, 'a', None)
    world.run(10 * MS)
    assert ask(world, second, INTERRUPT, None)[0] == INTERRUPT
    assert first.heard[0][0] == 0 and 'EXPINTERRUPT' in first.heard[0][1]


def test_too_many_commands_are_refused_with_a_sentence():
    world = World()
    world.program.work = lambda asked: 5000 * MS
    masters = [StockMaster(world, ('127.0.0.1', 5000 + n)) for n in range(WAITING_MOST + 3)]
    for master in masters:
        master.command(END, None)
    world.run(10 * MS)
    assert len(world.desk.waiting) == WAITING_MOST
    assert [bool(master.heard) for master in masters].count(True) == 2
    world.run(9000 * MS)
    assert all(master.heard and not master.closed for master in masters)


def test_what_the_program_says_by_itself_reaches_all_masters_of_the_experiment(both):
    world, master = both
    other = StockMaster(world, ('127.0.0.1', 7001))
    stranger = StockMaster(world, ('127.0.0.1', 7002))
    ask(world, master, START, 'ref', None)
    ask(world, other, INIT, None)
    assert world.desk.tell(INTERRUPT, {'why': 'camera 2 died'}, world.now) == ''
    world.run(10 * MS)
    said = [16, {'why': 'camera 2 died', 'status': 30}]
    assert (master.heard[-1], other.heard[-1], stranger.heard) == (said, said, [])
    ask(world, master, CLEANUP, None)
    world.desk.tell(STATUS, {'status': 10}, world.now)
    world.run(10 * MS)
    assert world.desk.memory.status == 10 and [32, 10] not in master.heard


def test_who_only_asks_what_it_does_is_no_master_of_the_experiment(both):
    world, master = both
    asker = type(master)(world, ('127.0.0.1', 5009))
    ask(world, asker, INFO, 0, None)
    ask(world, master, START, REF, None)
    ask(world, asker, STATUS, 0)
    assert world.desk.memory.heard and list(world.desk.memory.masters) == [master.address]
    said = len(asker.heard)
    world.desk.tell(INTERRUPT, {}, world.now)
    world.run(1000 * MS)
    assert len(asker.heard) == said and master.heard[-1][0] == INTERRUPT


PARTS = {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'}


@pytest.mark.parametrize(
    ('event', 'data', 'found'),
    [
        (INIT, [{'exp_ref': REF}], REF),
        (INIT, [{'exp_ref': PARTS}], REF),
        (INIT, [REF], REF),
        (START, [REF, None], REF),
        (START, [PARTS, None], REF),
        (INIT, ['get ready'], None),
        (INIT, [None], None),
        (INIT, [{'exp_ref': {'date': '2026-01-01'}}], None),
        (END, [REF], None),
    ],
)
def test_the_experiment_is_known_by_every_form_in_which_masters_name_it(event, data, found):
    world = World()
    master = StockMaster(world)
    reply = ask(world, master, event, *data)
    assert world.desk.memory.exp_ref == found
    if event == INIT:
        assert reply[2]['exp_ref'] == found


@pytest.mark.parametrize('end', [END, INTERRUPT])
def test_an_experiment_that_is_not_named_is_not_said_to_be_the_one_before(both, end):
    """EXPINIT without a reference, and no EXPCLEANUP before it, was answered with that of the last one."""
    world, master = both
    ask(world, master, START, REF, None)
    ask(world, master, end, None)
    assert ask(world, master, INFO, 30, {})[2]['exp_ref'] == REF  # until another one begins
    assert ask(world, master, INIT, None)[2]['exp_ref'] is None
    assert world.desk.memory.asked_ref is None
    assert ask(world, master, START, '2026-01-01_2_subject', None)[1] == '2026-01-01_2_subject'
    assert ask(world, master, INIT, 'once more')[2]['exp_ref'] == '2026-01-01_2_subject', 'that one still runs'


def test_an_interrupt_by_itself_is_not_taken_for_the_answer_to_one():
    world = World()
    master = StockMaster(world)
    world.program.work = lambda asked: 500 * MS
    master.command(CLEANUP, None)
    world.run(10 * MS)
    world.desk.tell(INTERRUPT, {'why': 'camera'}, world.now)
    world.run(1000 * MS)
    assert [message[0] for message in master.heard] in ([CLEANUP], [CLEANUP, INTERRUPT])


def test_a_program_that_ends_while_it_runs_is_told_by_an_interrupt(both):
    world, master = both
    ask(world, master, START, 'ref', None)
    world.program.die()
    world.run(10 * MS)
    assert master.heard[-1] == [16, {'error': 'the program ended', 'status': 30}]
    world.program.is_there = True
    assert ask(world, master, STATUS, 0) == [32, 30]


def test_what_a_program_does_not_want_is_answered_truly(both):
    world, master = both
    world.program.wants = START
    assert ask(world, master, INIT, {'exp_ref': 'r'}) == [1, 10, {'exp_ref': 'r'}]
    assert ask(world, master, START, 'r', None)[1] == 'r'
    assert ask(world, master, END, None)[0] == 0
    world.program.wants = END
    assert ask(world, master, END, 1)[1]['status'] == 30
    assert ask(world, master, START, 'r2', None)[0] == 0
    assert ask(world, master, CLEANUP, None)[1]['status'] == 0


def test_an_alyx_token_is_passed_on_and_not_replied_to():
    world = World()
    master = OurMaster(world)
    master.command(ALYX, 'https://alyx', {'user': 'secret'})
    world.run(100 * MS)
    assert world.program.handed[0].data == ['https://alyx', {'user': 'secret'}]
    assert master.heard == [] and sum(master.echoes.values()) == 1 and world.desk.is_quiet
    assert 'secret' not in repr(world.program.handed) + repr(world.notes)
    assert 'secret' not in str(memory.to_keep(world.desk.memory, 1))
    world.program.answer = lambda asked: None
    assert ask(world, master, ALYX, None, {}) == [128, None, {}]


def test_a_reply_that_no_datagram_holds_is_an_error(both):
    world, master = both
    world.program.answer = lambda asked: {'much': 'x' * 66_000}
    answer = ask(world, master, END, None)
    assert answer[0] == 0 and '65507' in answer[1]


def test_a_master_whose_computer_cuts_messages_is_understood():
    world = World(cut=100)
    sent = []
    world.desk.received(b'[4, "' + b'y' * 300 + b'"]', ('127.0.0.1', 9), world.now)
    while world.now < 10**12 + 10 * MS:
        world.run(MS)
    world.masters[('127.0.0.1', 9)] = type('Cut', (), {'hear': lambda self, payload: sent.append(payload)})()
    world.desk.tell(INTERRUPT, {'why': 'z' * 300}, world.now)
    world.run(3000 * MS)  # the reply to END is given up
    world.desk.received(sent[-1][:100], ('127.0.0.1', 9), world.now)
    world.run(MS)
    assert world.desk.is_quiet and len(world.program.handed) == 1


@pytest.mark.parametrize(
    'junk', [b'', b'x', b'\xff\xfe', b'[3, 1]', b'["foo", 1]', b'[null]', b'[' * 5000, b'[0, "no", 2]', b'{}', b'[2\t]']
)
def test_what_is_no_command_is_ignored_and_counted(junk):
    world = World()
    world.desk.received(junk, ('127.0.0.1', 1), world.now)
    world.run(MS)
    assert world.datagrams == 0 and sum(world.desk.counts.values()) == 1 and not world.desk._masters


def test_what_lay_unread_for_long_is_not_begun_and_not_echoed_but_a_question_is_answered():
    world = World()
    world.desk.received(b'[2, "ref", null]', ('127.0.0.1', 1), world.now, is_old=True)
    world.run(MS)
    assert world.datagrams == 0 and not world.program.handed and world.desk.counts['old'] == 1 and world.desk.is_quiet
    world.desk.received(b'[32, 0]', ('127.0.0.1', 1), world.now, is_old=True)
    world.desk.received(b'[2, "ref", null]', ('127.0.0.1', 1), world.now)
    world.run(MS)
    assert [asked.event for asked in world.program.handed] == [STATUS, START]


def test_strangers_are_told_once_a_second_and_cost_nothing():
    world = World(masters=['10.0.0.1'])
    for n in range(5000):
        world.desk.received(b'[2, "ref", null]', (f'10.1.{n // 250}.{n % 250}', n + 1), world.now)
        world.desk.received(b'[2, "ref", null]', ('10.9.9.9', n + 1), world.now)
    sent = []
    while (action := world.desk.next(world.now)) is not None:
        sent.append(action)
    assert len(sent) <= 2 * STRANGERS_MOST and len(world.desk._strangers._told) <= STRANGERS_MOST
    assert world.desk.counts['strangers'] == 10_000 and not world.program.handed and not world.desk._masters
    told = [action.payload for action in sent if action.address[0] == '10.9.9.9']
    assert len(told) == 2 and b'PermissionError' in told[1]
    world.now += 2000 * MS
    world.desk.received(b'[2, "ref", null]', ('10.9.9.9', 1), world.now)
    assert world.desk.next(world.now) is not None


def test_a_flood_of_masters_has_a_bound():
    world = World()
    for n in range(3000):
        world.desk.received(b'[32, 0]', ('127.0.0.1', n + 1), world.now)
        world.run(0)
        assert len(world.desk._masters) <= MASTERS_MOST
    late = StockMaster(world, ('127.0.0.1', 9001))
    assert ask(world, late, STATUS, 0) == [32, 0]
    world.run(20_000 * MS)
    assert world.desk.is_quiet and len(world.desk.memory.masters) <= MASTERS_MOST


def test_a_new_worker_answers_what_is_asked_again_without_asking_the_program(both):
    world, master = both
    ask(world, master, START, 'ref', None)
    before = world.desk
    kept = memory.to_keep(before.memory, 5)
    world.desk = Desk('cameras', world.program, memory.found(kept))
    world.now += 700 * MS
    assert world.desk.memory.status == 20 and world.desk.memory.exp_ref == 'ref'
    world.desk.received(master.sent[-1], master.address, world.now)
    world.run(10 * MS)
    assert len(world.program.handed) == 1 and len(master.heard) == 2 and master.heard[0] == master.heard[1]


@pytest.mark.parametrize(
    'kept', [None, [], {}, {'status': True, 'masters': [1, [2]], 'done': [1], 'info': 3, 'port': -1}]
)
def test_a_damaged_memory_is_not_believed(kept):
    assert memory.found(kept) == memory.Memory() and memory.port_of(kept) == 0


def test_a_worker_that_stops_ends_what_waits_and_waits_for_what_is_in_hand():
    world = World()
    masters = [StockMaster(world, ('127.0.0.1', 5000 + n)) for n in range(3)]
    world.program.work = lambda asked: 500 * MS
    for master in masters[:2]:
        master.command(END, None)
    world.run(10 * MS)
    world.desk.close('the worker was stopped')
    masters[2].command(END, None)
    world.run(1000 * MS)
    assert [master.heard[0][0] for master in masters] == [END, 0, 0] and world.desk.is_quiet


# --- any history -----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just('ask'), st.integers(0, 2), st.sampled_from([INIT, START, END, CLEANUP, INTERRUPT, STATUS, INFO])
        ),
        st.tuples(st.just('let'), st.sampled_from([0, 1, 3, 60, 300, 600, 1100, 8100])),
        st.tuples(
            st.just('fates'), st.lists(st.sampled_from([[], [1], [1, 1], [1, 4], [40], [1, 40], [1, 300]]), max_size=4)
        ),
        st.tuples(st.just('work'), st.sampled_from([0, 1, 30, 700, 7000, 9000, None])),
        st.tuples(st.just('die')),
        st.tuples(st.just('back')),
        st.tuples(st.just('tell'), st.sampled_from([INTERRUPT, STATUS])),
    ),
    max_size=40,
)


@settings(
    max_examples=int(os.environ.get('HISTORIES', '400')),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(STEPS)
def test_whatever_happens_each_command_is_done_at_most_once_and_answered_once(steps):
    fates: list[list[int]] = []
    world = World(lambda: [max(HOP, delay * MS) for delay in fates.pop(0)] if fates else [HOP])
    masters = [StockMaster(world, ('127.0.0.1', 1)), StockMaster(world, ('127.0.0.1', 2)), OurMaster(world)]
    serial = 0
    troubled = False
    for step in steps:
        match step:
            case ('ask', who, event):
                if masters[who].is_free:
                    serial += 1
                    masters[who].command(event, f'#{serial}', None)
            case ('let', span):
                world.run(span * MS)
            case ('fates', some):
                fates[:] = some
                troubled = troubled or any(fate != [1] for fate in some)
            case ('work', span):
                world.program.work = lambda asked, span=span: None if span is None else span * MS
            case ('die',):
                world.program.die()
            case ('back',):
                world.program.is_there = True
            case ('tell', event):
                world.desk.tell(event, {'status': 20}, world.now)
                troubled = True  # it may cross a command: that closes a stock master
    fates.clear()
    world.run(30_000 * MS)
    assert world.desk.is_quiet
    handed = [asked.data[0] for asked in world.program.handed if asked.event not in rules.QUESTIONS]
    assert len(handed) == len(set(handed)), 'carried out twice'
    arrived = [note.number for note in world.notes if note.kind == 'asked']
    answered = [note.number for note in world.notes if note.kind == 'replied']
    assert sorted(arrived) == sorted(answered) and len(set(answered)) == len(answered)
    sent = sum(len(master.sent) for master in masters)
    assert len(arrived) <= sent + sum(masters[2].repeated.values()) + (sent if troubled else 0)
    for master in masters:
        if not troubled:
            assert not master.closed
            assert all(master.echoes[text] == 1 for text in master.sent)
            assert len([m for m in master.heard if m[0] != INTERRUPT or 'error' not in m[1]]) >= len(master.sent)

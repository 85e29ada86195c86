"""The desk of one listener: who asks, what is in hand, and what is said to whom. No sockets, loop, threads or clock.

    received(datagram, address, now)         from the network
    answered / failed / lost / late          what became of what the program was handed
    tell / attached / ended                  what the program says by itself, or what became of it
    next(now) -> Send | Note | None          to be called until it gives None
    wake_at() -> int | None                  when to call `next` again at the latest, ns

The program is called from in here: it takes at once or refuses, and never waits. Rules, beside those of `rules`:

1. **One at a time.** The program is handed one command at a time, and interrupts beside it. What else is asked waits
   here, 16 at most. Each has its own time-out from its arrival, in which it is answered or its master told that it
   failed: what the program still has is taken back then, unless its answer is on the way.
2. **One reply.** Messages to one master go one after the other, each until it is confirmed, or for 1 s. Errors, which
   nobody confirms, do not wait.
3. **Interrupts** overtake: what waits is ended, also what the program was handed and has not taken.
4. **Questions.** EXPSTATUS and EXPINFO are answered from what the program last said, if it is busy or does not want
   them. What else it does not want is answered here, too, but nothing that would be untrue: no EXPSTART, and no end of
   what is running.
5. **By itself.** What the program tells goes to all masters that have commanded in this experiment, not to those who
   only ask what it does; to one that waits for the answer to what would end it, behind that.
6. **Old commands** are not begun: what lay unread while this computer, or the worker, stood still.
7. **Strangers**, whom the configuration does not name, get an error, each once a second, some at a time.
8. **Killed at any moment.** `owed` holds a command from its echo until its answer has left, and says whether a program
   may have it. `keep` is called, or is to be called by whoever sends, before each step that somebody else sees: so the
   worker after us never does again what had begun, and tells or does what is left.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from typing import Any

from bridge.listen import rules
from bridge.listen.asked import Asked, Note, Owed, Program, Send
from bridge.listen.master import OUT_MOST, Master, Out, Said, dispensable
from bridge.listen.memory import Address, Done, Memory
from bridge.listen.owed import KNOWN_FOR, Left
from bridge.listen.rules import What
from bridge.listen.strangers import Strangers

WAITING_MOST = 16  # commands that wait for the program
INTERRUPTS_MOST = 4  # that the program has at a time
MASTERS_MOST = 64
_ENDS = (rules.INTERRUPT, rules.CLEANUP)  # an EXPINTERRUPT by itself could be taken for the answer to these
AGAIN = 1000 * rules.MS  # until what could not be taken back is tried once more


class Desk:
    """One listener.

    Parameters
    ----------
    name : str
        What it is called.
    program : Program
        Who does what is asked.
    memory : Memory, optional
        What it knew before.
    timeout : float
        How long the program has for one command, s.
    masters : collection of str
        Addresses of the PCs that may command; empty: all.
    cut : int
        Echoes are cut to so many bytes, by masters' computers too; 0: they are not.

    Attributes
    ----------
    counts : collections.Counter
        How many copies, strangers, malformed datagrams, and so on there were.
    last_stranger : str
        The address of the last stranger; "" for none.
    changed : callable
        Called when the memory has changed, or what is owed an answer.
    keep : callable
        Called when what has changed has to be kept before what comes next.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        memory: Memory | None = None,
        *,
        timeout: float = 8.0,
        masters: Collection[str] = (),
        cut: int = 0,
    ) -> None:
        self.name, self.program, self.memory = name, program, memory or Memory()
        self.change(timeout, masters, cut)
        self.counts: Counter[str] = Counter()
        self.changed: Callable[[], None] = lambda: None
        self.keep: Callable[[], None] = lambda: None
        self.waiting: deque[Asked] = deque()
        self.in_hand: dict[int, Asked] = {}
        self._owed: dict[int, Owed] = {}
        self._leaves = 0  # the command whose answer was the last thing that `next` gave
        self.closing = ''  # why nothing new is begun any more
        self._masters: dict[Address, Master] = {}
        self._strangers = Strangers()
        self.last_stranger = ''
        self._numbers = itertools.count(1)
        self._stamp = random.randrange(rules.NUMBERS)  # noqa: S311 (not where the worker before us began)
        self._arrived: deque[Asked] = deque()  # echoed, as soon as the echo has left
        self._out: deque[Send | Note] = deque()
        self._last: tuple[Said | None, list[Any]] = (None, [])
        if done := self.memory.done:
            said = Said(done.arrived, done.arrived, settled=True, done=True)
            self._masters.setdefault(done.address, Master()).said[done.datagram] = said
            self._last = said, done.message

    def change(self, timeout: float, masters: Collection[str], cut: int) -> None:
        """Take other settings, for what is asked from now on."""
        self.timeout, self.masters, self.cut = int(timeout * 1e9), frozenset(masters), cut

    # --- from the network ---

    def received(self, datagram: bytes, address: Address, now: int, *, is_old: bool = False) -> None:
        """Take a datagram, whatever it is; `is_old`: it may have lain unread for longer than its master waits."""
        if self.masters and address[0] not in self.masters:
            self._stranger(datagram, address, now)
            return
        master = self._masters.get(address)
        if master is not None and master.confirms(datagram, self.cut):
            return
        message = None if rules.is_ours(datagram) else rules.read(datagram)
        if message is None or message[0] == rules.ERROR:
            self.counts[
                'late confirmations' if rules.is_ours(datagram) else 'malformed' if not message else 'errors'
            ] += 1
            return
        event = message[0]
        if master is None and (master := self._admit(address)) is None:
            self.counts['masters too many'] += 1
            return
        copy = master.what_is(datagram, event, self._last[0], now)
        if master.held is not None and master.held[0] != datagram:
            master.held = None  # one who waits for an echo says nothing else: it was a copy
        if is_old and copy is What.NEW and event not in rules.QUESTIONS:
            self.counts['old'] += 1  # nor is it echoed: its master has told that nobody heard it
            return
        if copy is not What.NEW:
            self.counts['copies'] += 1
        if copy is What.HELD:
            master.held = master.held or (datagram, now + rules.HOLD)
        elif copy is not What.COPY:
            self._hear(master, address, datagram, copy, now)

    def _hear(self, master: Master, address: Address, datagram: bytes, copy: What, now: int) -> None:
        """Echo a command, and do with it what is to be done when that has left."""
        said = master.said.get(datagram)
        self._out.append(Send(datagram[: self.cut] if self.cut else datagram, address))
        if said is not None:
            said.echoed = now
        if copy is What.ASKED_AGAIN:
            self._say(address, self._last[1], said)
        elif copy is What.NEW and (message := rules.read(datagram)) is not None:
            event, data = message
            said = Said(now, now)
            master.remember(datagram, said)
            asked = Asked(next(self._numbers), address, event, data, now, now + self.timeout, datagram, said)
            master.open += 1
            self._arrived.append(asked)
            self._owed[asked.number] = Owed(asked)
            self.changed()

    def _stranger(self, datagram: bytes, address: Address, now: int) -> None:
        self.counts['strangers'] += 1
        self.last_stranger = address[0]
        if not self._strangers.may_be_told(address[0], now):
            return
        message = rules.read(datagram)
        if message is None or message[0] == rules.ERROR or rules.is_ours(datagram):
            return
        self._strangers.told(address[0], now)
        what = f'PermissionError: {address[0]} may not command {self.name}; name it under masters'
        self._out.append(Send(datagram[: self.cut] if self.cut else datagram, address))
        self._out.append(Send(rules.stamped(rules.error(message[0], what), 0), address))

    def _admit(self, address: Address) -> Master | None:
        """Make room for one more master; None if all are busy."""
        if len(self._masters) >= MASTERS_MOST:
            idle = dispensable(self._masters)
            if idle is None:
                return None
            for out in self._masters.pop(idle).out:
                self._owed.pop(out.settles, None)
        master = self._masters[address] = Master()
        return master

    # --- what is asked ---

    def _take(self, asked: Asked, now: int) -> None:
        """Do with a new command what the rules say; it has been echoed."""
        event = asked.event
        self._masters[asked.address].ends += event in _ENDS
        self.memory.heard = now
        self._out.append(Note('asked', event, asked.address, asked.number, asked.data))
        if event not in (*rules.QUESTIONS, rules.ALYX) or asked.address in self.memory.masters:
            self.memory.masters.pop(asked.address, None)
            self.memory.masters[asked.address] = now
            while len(self.memory.masters) > MASTERS_MOST:
                del self.memory.masters[next(iter(self.memory.masters))]
        before = None if self.memory.is_new(event) else self.memory.asked_ref
        self.memory.asked_ref = rules.named_reference(event, asked.data) or before
        if event not in rules.QUESTIONS:
            self.changed()
        if self.closing:
            self._fail(asked, self.closing)
        elif event == rules.INTERRUPT:
            self._overtake(asked)
        elif event in rules.QUESTIONS and self.is_busy:
            self._reply(asked, -1, {}, changes=False)
        elif event == rules.START and (other := self._in_hand_or_line(rules.START)):
            self._fail(asked, f'RuntimeError: the EXPSTART of {other.master} is in hand; wait for its answer')
        elif len(self.waiting) >= WAITING_MOST:
            self._fail(asked, f'RuntimeError: {WAITING_MOST} commands wait for {self.name} already; ask again later')
        else:
            self.waiting.append(asked)
            self._hand_next()

    @property
    def is_busy(self) -> bool:
        """bool: the program has something to do, or will."""
        return bool(self.in_hand or self.waiting)

    def _in_hand_or_line(self, event: int) -> Asked | None:
        return next((one for one in (*self.in_hand.values(), *self.waiting) if one.event == event), None)

    def _overtake(self, asked: Asked) -> None:
        """Hand an interrupt, before which everything ends that the program is not at (rule 3)."""
        older, self.waiting = tuple(self.waiting), deque()
        aborted = f'RuntimeError: aborted by the EXPINTERRUPT of {asked.master}'
        for one in older:
            self._fail(one, aborted)
        for one in tuple(self.in_hand.values()):
            if one.event != rules.INTERRUPT and self.program.recall(one):
                del self.in_hand[one.number]
                self._fail(one, aborted)
        if sum(one.event == rules.INTERRUPT for one in self.in_hand.values()) >= INTERRUPTS_MOST:
            self._fail(asked, f'RuntimeError: {self.name} has {INTERRUPTS_MOST} interrupts in hand already')
        else:
            self._hand(asked)

    def _hand_next(self) -> None:
        while self.waiting and not self.in_hand and not self.closing:
            self._hand(self.waiting.popleft())

    def _hand(self, asked: Asked) -> None:
        owed = self._owed[asked.number]
        owed.handed = True
        self.changed()
        self.keep()
        refusal = self.program.hand(asked)
        self.changed()
        if refusal is None:
            self.in_hand[asked.number] = asked
            return
        owed.handed = False
        if refusal.unwanted:
            self._answer_for_it(asked)
        else:
            self._fail(asked, refusal.sentence)

    def _answer_for_it(self, asked: Asked) -> None:
        """Answer what the program does not want to be asked, if that can be true (rule 4)."""
        runs = self.memory.status == rules.RUNNING
        what = rules.event_name(asked.event)
        if asked.event == rules.START:
            self._fail(asked, f'RuntimeError: the program that serves {self.name} takes no {what}')
        elif runs and asked.event in (rules.END, rules.INTERRUPT):
            self._fail(asked, f'RuntimeError: the program that serves {self.name} runs, and takes no {what}')
        else:
            self._reply(asked, self.memory.status if runs else -1, {})

    # --- what becomes of it ---

    def answered(self, number: int, status: int, data: Any) -> bool:
        """Take the program's answer; `status` -1: the usual one. False: it is not in hand (any more)."""
        asked = self.in_hand.pop(number, None)
        if asked is None:
            return False
        self._reply(asked, status, rules.as_data(data))
        self._hand_next()
        return True

    def failed(self, number: int, sentence: str) -> bool:
        """Take it that the program did not do it, or was lost with it; False: it is not in hand (any more)."""
        asked = self.in_hand.pop(number, None)
        if asked is None:
            return False
        self._fail(asked, sentence)
        self._hand_next()
        return True

    def inherit(self, asked: Asked, now: int) -> None:
        """Take up what the worker before us had handed to the program."""
        master = self._masters.get(asked.address) or self._admit(asked.address)
        if master is not None:
            master.open += 1
            master.ends += asked.event in _ENDS
            self.memory.masters.setdefault(asked.address, now)
            asked.said = Said(asked.arrived, asked.arrived)
            master.remember(asked.datagram, asked.said)
        self.in_hand[asked.number] = asked
        self._owed[asked.number] = Owed(asked, handed=True)

    def take_up(self, left: Left, now: int) -> None:
        """Carry out what the worker before us was asked, and had not begun; it has been echoed."""
        message = rules.read(left.datagram)
        if message is None or (self.masters and left.address[0] not in self.masters):
            return
        master = self._masters.get(left.address) or self._admit(left.address)
        if master is None:
            return
        due = min(left.arrived, now) + self.timeout
        said = Said(left.arrived, left.arrived)
        asked = Asked(self.number(), left.address, *message, left.arrived, due, left.datagram, said)
        master.open += 1
        master.remember(left.datagram, said)
        self._owed[asked.number] = Owed(asked)
        self._take(asked, now)

    def late(self, left: Left, *, status: int, data: Any, error: str) -> None:
        """Take an answer to what a worker before us was asked, and tell the master."""
        if self.masters and left.address[0] not in self.masters:  # whatever a broken program says
            return
        event = left.event
        if not error:
            ref = left.ref or self.memory.asked_ref
            self.memory.move(event, [ref if event == rules.START else {'exp_ref': ref}], status, rules.as_data(data))
            self.changed()
        if event == rules.ALYX and not error:  # who brought it waits for nothing
            self._out.append(Note('replied', event, left.address))
        else:
            self._tell_of(left, rules.error(event, error) if error else self._message(event, rules.as_data(data)))

    def forgotten(self, left: Left) -> None:
        """Tell a master of what a worker before us was asked: what that was to say, or that it did not come to it."""
        if self.masters and left.address[0] not in self.masters:
            return
        what = f'RuntimeError: the worker of {self.name} was restarted, and '
        if left.handed:
            what += 'whether this was done is not known; ask EXPSTATUS before you repeat it'
        else:
            what += 'this was not begun; ask again'
        self._tell_of(left, left.message or rules.error(left.event, what))

    def _tell_of(self, left: Left, message: list[Any]) -> None:
        if self._masters.get(left.address) is None and self._admit(left.address) is None:
            return
        asked = Asked(self.number(), left.address, left.event, [left.ref], left.arrived, left.arrived)
        self._owed[asked.number] = Owed(asked, left.handed, message)
        is_error = message[0] == rules.ERROR
        self._out.append(Note('replied', left.event, left.address, error=str(message[1]) if is_error else ''))
        if is_error:
            self._send_error(asked, message)
        else:
            self._say(left.address, message, None, settles=asked.number)
        self.changed()

    @property
    def owed(self) -> list[Owed]:
        """List of Owed: what was echoed, or is about to be, and has no answer that has left."""
        return list(self._owed.values())

    def number(self) -> int:
        """Return the next number of a command, for one that is inherited."""
        return next(self._numbers)

    def _fail(self, asked: Asked, what: str) -> None:
        self._close(asked, what)
        if asked.said is not None:
            asked.said.settled = True
        message = rules.error(asked.event, what)
        self._owed[asked.number].message = message
        self._send_error(asked, message)

    def _send_error(self, asked: Asked, message: list[Any]) -> None:
        self._out.append(Send(rules.stamped(message, self._next_stamp()), asked.address, asked.number))

    def _close(self, asked: Asked, error: str = '', data: list[Any] | None = None) -> None:
        """Note that a command has its answer."""
        if (master := self._masters.get(asked.address)) is not None:
            master.open -= 1
            master.ends -= asked.event in _ENDS
        self._out.append(Note('replied', asked.event, asked.address, asked.number, data or [], error))
        self.changed()

    def _reply(self, asked: Asked, status: int, said: dict[str, Any], *, changes: bool = True) -> None:
        if changes:
            self.memory.move(asked.event, asked.data, status, said)
        message = self._message(asked.event, said)
        try:
            rules.stamped(message, 0)
        except ValueError as error:
            self._fail(asked, f'{type(error).__name__}: it was done, but {error}')
            self.changed()
            return
        self._close(asked, data=message[1:])
        carried_out = asked.event not in rules.QUESTIONS
        if asked.said is not None:
            asked.said.done = True
        if rules.wants_reply(asked.event, asked.data):
            self._owed[asked.number].message = message
            self._say(asked.address, message, asked.said, settles=asked.number)
        else:
            self._owed.pop(asked.number)
            if asked.said is not None:
                asked.said.settled = True
        if carried_out:
            secret = asked.event == rules.ALYX
            self._last = asked.said, message
            self.memory.done = None if secret else Done(asked.address, asked.datagram, asked.arrived, message)
        if asked.event == rules.CLEANUP and self.memory.status == rules.CONNECTED:
            self.memory.masters.clear()
        self.changed()

    def _message(self, event: int, said: dict[str, Any]) -> list[Any]:
        memory = self.memory
        known: dict[str, Any] = {'status': memory.status, 'exp_ref': memory.exp_ref, 'info': memory.info}
        return [event, *rules.reply(event, said, name=self.name, **known)]

    # --- what the program says by itself, and what becomes of it ---

    def tell(self, event: int, data: Any, now: int) -> str:
        """Take what the program says by itself; return why it cannot be told, "" if it is."""
        said = rules.as_data(data)
        if event == rules.INFO:
            self.memory.info = said
        elif event == rules.STATUS:
            status = said.get('status', said.get('value'))
            if status not in (rules.CONNECTED, rules.INITIALIZED, rules.RUNNING, rules.STOPPED):
                return f'{status!r} is no status'
            self.memory.status = int(status)
            self._tell([event, self.memory.status], now)
        elif event == rules.INTERRUPT:
            if self.memory.status in (rules.INITIALIZED, rules.RUNNING):
                self.memory.status = rules.STOPPED
            self._tell([event, {**said, 'status': self.memory.status}], now)
        else:
            return f'{rules.event_name(event)} is nothing that a service says by itself'
        self._last = None, []
        self.memory.done = None
        self.changed()
        return ''

    def ended(self, what: str, now: int) -> None:
        """Take it that the program is gone, with nothing in hand that is not told otherwise."""
        if self.memory.end():
            self._tell([rules.INTERRUPT, {'error': what, 'status': self.memory.status}], now)
        self._last = None, []
        self.changed()

    def _tell(self, message: list[Any], now: int) -> None:
        for address, at in self.memory.masters.items():
            if now - at < KNOWN_FOR and (address in self._masters or self._admit(address)):
                self._say(address, message, None, is_told=True)

    # --- what is said ---

    def _say(
        self, address: Address, message: list[Any], said: Said | None, *, is_told: bool = False, settles: int = 0
    ) -> None:
        master = self._masters.get(address)
        try:
            payload = rules.stamped(message, self._next_stamp())
        except ValueError:
            master = None
        if master is None or len(master.out) >= OUT_MOST:  # nobody reads it
            self.counts['not said'] += 1
            self._owed.pop(settles, None)
            if said is not None:
                said.settled = True
            return
        if said is not None:
            said.settled = False
        master.out.append(Out(payload, said, message[0], is_told, settles))

    @property
    def has_news(self) -> bool:
        """bool: `next` is to be called, although its time has not come."""
        return bool(self._out or self._arrived)

    def _next_stamp(self) -> int:
        self._stamp = (self._stamp + 1) % rules.NUMBERS
        return self._stamp

    # --- what is to be done ---

    def next(self, now: int) -> Send | Note | None:
        """Return what is to be done next, None for nothing; what was returned before has been done."""
        if self._owed.pop(self._leaves, None):
            self.changed()
        if not self._out:
            self._proceed(now)
        action = self._out.popleft() if self._out else None
        self._leaves = action.settles if isinstance(action, Send) else 0
        return action

    def wake_at(self) -> int | None:
        """Return when `next` may have something to do although nothing happens, ns; None for never."""
        return min(self._times(), default=None)

    def _times(self) -> Iterator[int]:
        yield from (asked.due for asked in self.waiting)
        yield from (asked.due for asked in self.in_hand.values())
        for master in self._masters.values():
            yield from master.times()

    def _proceed(self, now: int) -> None:
        while self._arrived and not self._out:
            self._take(self._arrived.popleft(), now)
        if self._out:
            return
        for asked in tuple(self.in_hand.values()):
            if now >= asked.due:
                self._give_up(asked, now)
        late = [asked for asked in self.waiting if now >= asked.due]
        for asked in late:
            self.waiting.remove(asked)
            self._fail(asked, f'TimeoutError: {self.name} was busy with earlier commands for {self.timeout / 1e9:g} s')
        for address, master in self._masters.items():
            self._speak(address, master, now)
            if (datagram := master.held_until(now)) is not None:
                said = master.said.get(datagram)
                again = said is not None and said is self._last[0]
                self._hear(master, address, datagram, What.ASKED_AGAIN if again else What.NEW, now)

    def _give_up(self, asked: Asked, now: int) -> None:
        if not self.program.withdraw(asked):
            asked.due = now + AGAIN  # its answer is on the way, or `failed` follows
            return
        del self.in_hand[asked.number]
        after = f'{self.timeout / 1e9:g} s'
        self._fail(asked, f'TimeoutError: the program that serves {self.name} did not answer within {after}')
        self._hand_next()

    def _speak(self, address: Address, master: Master, now: int) -> None:
        """Say the next thing to a master, if the one before it is confirmed or given up."""
        if (out := master.give_up(now)) is not None:
            self.counts['not confirmed'] += 1
            self._out.append(Note('trouble', out.event, address, error='did not confirm what it was told'))
        if (out := master.speak(now)) is not None:
            self._out.append(Send(out.payload, address, out.settles))

    # --- the end ---

    def close(self, why: str) -> None:
        """Begin nothing new; what waits is ended, what is in hand has its time."""
        self.closing = why
        while self.waiting:
            self._fail(self.waiting.popleft(), why)

    def abandon(self, why: str) -> None:
        """End what is in hand, now."""
        for asked in tuple(self.in_hand.values()):
            if self.program.withdraw(asked):
                del self.in_hand[asked.number]
                self._fail(asked, why)

    @property
    def is_quiet(self) -> bool:
        """bool: nothing is in hand, and nobody has to confirm anything."""
        return not (self.is_busy or self._arrived) and not any(
            m.flying or m.out or m.held for m in tuple(self._masters.values())
        )

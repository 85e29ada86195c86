"""What a service knows of itself, and what of it outlives its worker. Values only.

The state is what the program said last. It moves along
CONNECTED --EXPINIT--> INITIALIZED --EXPSTART--> RUNNING --EXPEND/EXPINTERRUPT--> STOPPED --EXPCLEANUP--> CONNECTED if
the program does not say otherwise. When a program ends, one that was RUNNING leaves STOPPED behind, for that is what
its experiment is; one that was INITIALIZED leaves CONNECTED, for the next one knows nothing of that EXPINIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.listen import rules

LONGEST = 4096  # bytes of a reply that is kept
_STATUSES = (rules.CONNECTED, rules.INITIALIZED, rules.RUNNING, rules.STOPPED)

Address = tuple[str, int]


@dataclass(frozen=True)
class Done:
    """What was last carried out, and the reply, in case that it is asked again.

    Attributes
    ----------
    address : tuple of str and int
        The master.
    datagram : bytes
        As it came.
    arrived : int
        ns.
    message : list
        The reply, with the event number.
    """

    address: Address
    datagram: bytes = field(repr=False)
    arrived: int
    message: list[Any] = field(repr=False)


@dataclass
class Memory:
    """What a service knows.

    Attributes
    ----------
    status : int
        As iblutil's ExpStatus.
    exp_ref : str or None
        The experiment.
    asked_ref : str or None
        That of the last command that begins one, be it answered or not.
    info : dict
        What the program said for EXPINFO.
    heard : int
        When a master asked anything, ns; 0: never.
    masters : dict of tuple to int
        Who has commanded in this experiment, and when last, ns: they are told what the program says by itself.
    done : Done or None
        What was last carried out.
    """

    status: int = rules.CONNECTED
    exp_ref: str | None = None
    asked_ref: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    heard: int = 0
    masters: dict[Address, int] = field(default_factory=dict)
    done: Done | None = None

    def move(self, event: int, data: list[Any], status: int, said: Mapping[str, Any]) -> None:
        """Take it that the program did what was asked; `status` -1: the usual one."""
        before = None if self.is_new(event) else self.exp_ref
        self.status = status if status in _STATUSES else rules.USUAL.get(event, self.status)
        named = said.get('exp_ref') if event in (rules.INIT, rules.START) else None
        self.exp_ref = (named if isinstance(named, str) else rules.named_reference(event, data)) or before
        if event == rules.INFO:
            self.info = {**self.info, **said}
        if event == rules.CLEANUP and self.status == rules.CONNECTED:
            self.exp_ref = None

    def is_new(self, event: int) -> bool:
        """Tell whether this begins another experiment: the reference of the one before, which has ended, is not its."""
        return event == rules.INIT and self.status in (rules.CONNECTED, rules.STOPPED)

    def end(self) -> bool:
        """Take it that the program is gone; True if it was running an experiment."""
        was_running = self.status == rules.RUNNING
        if self.status == rules.INITIALIZED:
            self.status, self.exp_ref = rules.CONNECTED, None
        self.status = rules.STOPPED if was_running else self.status
        self.info, self.done = {}, None
        return was_running


def to_keep(memory: Memory, port: int) -> dict[str, Any]:
    """Return what the next worker has to know, as JSON can say it. No token is ever among it."""
    done = memory.done
    if done is not None and len(done.datagram) + len(str(done.message)) > LONGEST:
        done = None
    return {
        'port': port,
        'status': memory.status,
        'exp_ref': memory.exp_ref,
        'asked_ref': memory.asked_ref,
        'heard': memory.heard,
        'info': memory.info if len(str(memory.info)) <= LONGEST else {},
        'masters': [[host, port, at] for (host, port), at in memory.masters.items()],
        'done': done and [*done.address, done.datagram.decode('latin-1'), done.arrived, done.message],
    }


def found(kept: Any) -> Memory:
    """Return what the worker before us knew; what is damaged is not believed."""
    memory = Memory()
    if not isinstance(kept, dict):
        return memory
    if type(kept.get('status')) is int and kept['status'] in _STATUSES:
        memory.status = kept['status']
    if isinstance(kept.get('exp_ref'), str):
        memory.exp_ref = kept['exp_ref']
    if isinstance(kept.get('asked_ref'), str):
        memory.asked_ref = kept['asked_ref']
    if isinstance(kept.get('info'), dict):
        memory.info = kept['info']
    if type(kept.get('heard')) is int:
        memory.heard = kept['heard']
    masters = kept.get('masters')
    for one in masters if isinstance(masters, list) else ():
        match one:
            case [str(host), int(port), int(at)]:
                memory.masters[host, port] = at
    match kept.get('done'):
        case [str(host), int(port), str(text), int(arrived), [int(), *_] as message]:
            memory.done = Done((host, port), text.encode('latin-1', 'replace'), arrived, message)
    return memory


def port_of(kept: Any) -> int:
    """Return the port that a listener had, 0 if none is known."""
    port = kept.get('port') if isinstance(kept, dict) else 0
    return port if type(port) is int and 0 < port < 65536 else 0

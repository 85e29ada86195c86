"""iblbridge: start, stop and query the remote services of a rig from any program, through shared memory.

=====================  ===================================================================================
`Auxiliaries`          the remote services behind a thread; drop-in for ``iblrig.net.Auxiliaries``;
                       ``Auxiliaries.from_segment('rig0')`` is the same through a worker
`Worker`               serves a segment: takes what programs command, answers what each service did
`Client`               commands from Python, through the same C functions that every other program calls
`AsyncClient`          the same for asyncio
`Service`              your program as a service that masters command, by a function for each message
`BridgeError`          what went wrong, with code, sentence, response and the request that stays open; its kinds:
`Misuse`               the call was wrong: arguments, names, a closed client; nothing was sent
`ServiceFailure`       a service did not do what was asked, or the command was not carried out
`OutcomeUnknown`       the command may have been carried out: wait again, or ask EXPSTATUS before repeating it
`NoWorker`             no worker serves the segment
`NoSegment`            there is no segment, no slot, or none that can be used
`load_services`        names and addresses from a YAML file
=====================  ===================================================================================

The data path, from the foreign program to the service: ``csrc/commands.c`` → ``csrc/ring.c`` → ``csrc/worker.c`` →
`bridge.segment.served` → `bridge.worker.commands` → `bridge.services.carrier` → `bridge.services.plan` →
`bridge.services.link`, which does what `bridge.services.line` decides. Decisions without input or output stand there
and in `bridge.services.rules`, `bridge.services.stages`, `bridge.outcome`, `bridge.segment.payload`,
`bridge.segment.response`, `bridge.worker.watch` and `bridge.worker.health`.

Names are imported when they are first used: iblutil, which only `Auxiliaries` needs, takes a second.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what checkers of types take for typing's, which takes 10 ms to import
if TYPE_CHECKING:
    from typing import Any

    from bridge.auxiliaries import Auxiliaries
    from bridge.config import load_services
    from bridge.errors import BridgeError, Misuse, NoSegment, NoWorker, OutcomeUnknown, ServiceFailure
    from bridge.segment.aio import AsyncClient
    from bridge.segment.client import Client
    from bridge.segment.service import Service
    from bridge.worker import Worker

__all__ = [
    'AsyncClient',
    'Auxiliaries',
    'BridgeError',
    'Client',
    'Misuse',
    'NoSegment',
    'NoWorker',
    'OutcomeUnknown',
    'Service',
    'ServiceFailure',
    'Worker',
    'load_services',
]

_HOMES = {
    'AsyncClient': 'bridge.segment.aio',
    'Auxiliaries': 'bridge.auxiliaries',
    'BridgeError': 'bridge.errors',
    'Client': 'bridge.segment.client',
    'Misuse': 'bridge.errors',
    'NoSegment': 'bridge.errors',
    'NoWorker': 'bridge.errors',
    'OutcomeUnknown': 'bridge.errors',
    'Service': 'bridge.segment.service',
    'ServiceFailure': 'bridge.errors',
    'Worker': 'bridge.worker',
    'load_services': 'bridge.config',
}


def __getattr__(name: str) -> Any:
    if name == '__version__':
        from importlib.metadata import version

        return version('iblbridge')
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, '__version__'])

"""For which clients that died something has still to be sent: kept beside the segment until it leaves. Values only.

Times are those of the segment's clock, which goes on from worker to worker until the PC is started anew. So a new
worker waits for what is left of ``after_s``, and sends at once what is overdue. After a start of the PC the segment is
another one, and nothing of before is sent, as with commands: by then somebody may run another experiment. While the PC
sleeps the clock stands still on Linux, and the time that is left with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KIND = 'losses'


def to_keep(segment_id: int, owed: Mapping[str, int]) -> dict[str, Any]:
    """Return what the next worker has to know; `owed` gives when each client died, ns."""
    return {'segment': f'{segment_id:016x}', 'lost': dict(owed)}


def found(kept: Mapping[str, Any], segment_id: int) -> tuple[dict[str, int], list[str]]:
    """Return when clients died for whom something is still due, ns by name, and those for whom it is too late.

    Examples
    --------
    >>> kept = to_keep(7, {'stimulus': 5})
    >>> found(kept, 7), found(kept, 8), found({'lost': [1]}, 7)
    (({'stimulus': 5}, []), ({}, ['stimulus']), ({}, []))
    """
    lost = kept.get('lost')
    if not isinstance(lost, dict):
        return {}, []
    owed = {client: at for client, at in lost.items() if isinstance(client, str) and type(at) is int}
    return (owed, []) if kept.get('segment') == f'{segment_id:016x}' else ({}, list(owed))

"""The journal: what was commanded and what became of it, as JSON Lines, one object a line.

Every entry has ``kind``, ``time`` (ns of the segment's clock) and ``wall`` (ISO 8601 with offset); what else, by kind:

============  =========================================================================================================
journal       the first of each file: ``schema`` (`SCHEMA`) of what follows, ``version`` (of iblbridge); a file without
              it has schema 1, or that of its ``start``. `Reading` reads it, and does not yield it
start         a worker begins: ``schema`` (`SCHEMA`), ``version`` (of iblbridge), ``segment``, ``pid``, ``settings``,
              ``services`` (each with its settings)
stop          it ends in order: ``reason``, such as SIGINT; a start that follows neither a stop nor a gap follows a kill
command       ``command_id``, ``message``, ``client`` (who sent it; of the worker's own commands: on whose behalf),
              ``services`` (as addressed, "" for all), ``args``, ``sent``
outcome       the response body as in iblbridge.h, with the same ``command_id`` and ``client``
notification  the same, of a command that nobody waits for
served        who serves a listener from now on: ``service`` (the listener), ``client`` (the program, "" for nobody),
              ``pid``, and of nobody ``error`` (why)
asked         what a master asked of a listener: ``command_id``, ``message``, ``service`` (the listener), ``client``
              (the program that serves it, "" if none is known yet), ``master``, ``args``
replied       what it was told, with the same ``command_id``: ``ok``, ``error``, ``data`` (the reply)
event         the event's body as in iblbridge.h: ``event``, ``service``, ``client``, ``data``
reload        the files were read again: ``by`` (a program or SIGHUP), ``ok``, ``error`` (why it was refused),
              ``added``, ``removed``, ``changed`` (names of services), ``reordered``, ``changed_settings`` (what else is
              different, such as "heartbeat of the rig"), and ``settings`` and ``services`` as they are now
gap           ``lost``: so many entries are missing here, because the disk was full or too slow
============  =========================================================================================================

Text is UTF-8 as it was said; half a surrogate pair, which UTF-8 cannot say, is JSON's escape for it.

What a reader may rely on: whatever a kind has by this table keeps its name, its type and its meaning. New kinds and
keys may come at any time, and are to be skipped by who does not know them. `SCHEMA` is raised only if that does not
hold, and then an older reader refuses the file (`NewerSchema`).

`writing` takes entries from everybody, `entry` makes their lines, `present` is the file that they go to, `rotation` and
`compression` put complete files aside; `reading` reads one, `files` several as one.
"""

from __future__ import annotations

from bridge.journal.reading import KINDS, SCHEMA, NewerSchema, Reading, entry_of, is_foreign
from bridge.journal.writing import Journal

__all__ = ['KINDS', 'SCHEMA', 'Journal', 'NewerSchema', 'Reading', 'entry_of', 'is_foreign']

"""Several datagrams that leave by one call of the C library, each through its own socket.

Python gives the interpreter's lock away in each `socket.sendto`, and another thread of the program, awoken by the first
echo, takes it in between: the last of eight services began up to four times later than it has to. Here it is given away
once.

This stands above `bridge.segment.library`, and is handed to `bridge.services` by whoever uses that (the worker): the
network is usable, and quick to import, without the library.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.segment.library import ffi, lib

_TABLE = ffi.typeof('struct iblbw_datagram[]')


def send(datagrams: Sequence[tuple[int, int, int, bytes]]) -> list[tuple[int, int]]:
    """Send datagrams, one directly behind the other; none waits for room in its socket.

    Parameters
    ----------
    datagrams : sequence of (int, int, int, bytes)
        Of each the file number of its socket (UDP, IPv4, not blocking), whereto (127.0.0.1 is 0x7F000001; port), and
        what.

    Returns
    -------
    list of (int, int)
        When each was handed over (ns of `time.perf_counter_ns`, from directly before), and 0 or the system's number of
        why it did not leave: ``errno``, on Windows ``winerror``.
    """
    table = ffi.new(_TABLE, [(socket, address, port, len(what)) for socket, address, port, what in datagrams])
    lib.iblbw_send_datagrams(table, len(table), b''.join([what for *_, what in datagrams]))
    return [(one.sent, one.error) for one in table]

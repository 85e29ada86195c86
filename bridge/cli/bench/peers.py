"""What a lab would write in place of the worker: servers for the same C program, each in a process of its own.

=========  ===========================================================================================================
bridge     pyzmq, REP: awaits iblutil's ``Services.init`` for each request, answers in msgpack; no recovery, no journal
echo       pyzmq, REP: decodes the request from msgpack and encodes the answer
seqpacket  the same over a local socket, without any library
=========  ===========================================================================================================

pylsl and iceoryx2 are not among them: they have streams and publish-subscribe and neither asks nor awaits a service, so
there is no exchange here that they carry out, too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

INSTALL = "pip install 'iblbridge[bench]'"


def libzmq() -> Path | None:
    """Return the libzmq that pyzmq brought for itself, or None without one."""
    import importlib.util

    found = importlib.util.find_spec('zmq')
    if not found or not found.origin:
        return None
    beside = Path(found.origin).parents[1] / 'pyzmq.libs'
    return next(iter(sorted(beside.glob('libzmq*.so*'))), None)


def missing() -> str:
    """Return what does not stand beside us without pyzmq, and what to do; "" if nothing is missing."""
    return '' if libzmq() else f'Nothing stands beside ZeroMQ, for pyzmq is not installed: {INSTALL}'


async def _bridge(endpoint: str, uris: list[str]) -> None:
    import msgpack
    import zmq
    import zmq.asyncio

    from bridge.services.iblutil import net, silent_client

    services = net.app.Services([await silent_client(uri, f's{i}') for i, uri in enumerate(uris)], timeout=10)
    asked = zmq.asyncio.Context().socket(zmq.REP)
    asked.bind(endpoint)
    print('ready', flush=True)
    while True:
        msgpack.unpackb(await asked.recv())
        answers: Any = await services.init(None)
        await asked.send(msgpack.packb({name: str(answer) for name, answer in answers.items()}))


def _echo(endpoint: str) -> None:
    import msgpack
    import zmq

    asked = zmq.Context().socket(zmq.REP)
    asked.bind(endpoint)
    print('ready', flush=True)
    while True:
        asked.send(msgpack.packb({'answer': msgpack.unpackb(asked.recv())}))


def _seqpacket(path: str) -> None:
    import msgpack

    if sys.platform == 'win32':
        raise NotImplementedError('Windows has no such sockets')
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen(1)
    print('ready', flush=True)
    asked, _ = listening.accept()
    while request := asked.recv(65536):
        asked.send(msgpack.packb({'answer': msgpack.unpackb(request)}))


def main() -> None:
    """Serve until standard input ends."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    kind, where, *uris = sys.argv[1:]
    if kind == 'bridge':
        asyncio.run(_bridge(where, uris))
    elif kind == 'echo':
        _echo(where)
    else:
        _seqpacket(where)

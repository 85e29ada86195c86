"""A program that serves, as a foreign one does: through the C functions, in a thread or a process of its own."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from bridge.errors import BridgeError, NoSegment, check
from bridge.numbers import CODES
from bridge.segment.library import ffi, lib

Answer = Callable[[dict[str, Any]], Any]
"""Returns what is answered, None for nothing to say; raises for `iblb_fail`; returns `LEFT` to leave it."""
LEFT = object()


class Serving:
    """One handle that serves a listener."""

    def __init__(self, segment: str, name: str = 'program', service: str = '', mask: int = 255) -> None:
        place = ffi.new('int *')
        check(lib.iblb_open(segment.encode(), name.encode(), 5000, place))
        self.handle = int(place[0])
        try:
            self.code = check(lib.iblb_serve(self.handle, service.encode(), mask), self.handle)
        except BridgeError:
            self.close()
            raise

    def next(self, timeout_ms: int = 1000) -> tuple[int, dict[str, Any]] | None:
        command, message = ffi.new('int *'), ffi.new('int *')
        text = ffi.new('char[]', 1 << 17)
        code = lib.iblb_next_command(self.handle, timeout_ms, command, message, text, 1 << 17, ffi.NULL)
        if code in (CODES['IBLB_E_TIMEOUT'], CODES['IBLB_E_NO_WORKER']):
            return None
        check(code, self.handle)
        return int(command[0]), json.loads(ffi.string(text))

    def answer(self, command: int, data: Any = None, status: int = -1) -> int:
        text = b'' if data is None else json.dumps(data).encode()
        return int(lib.iblb_answer(self.handle, command, status, text))

    def fail(self, command: int, sentence: str) -> int:
        return int(lib.iblb_fail(self.handle, command, sentence.encode()))

    def tell(self, message: int, data: Any) -> int:
        return int(lib.iblb_tell(self.handle, message, json.dumps(data).encode()))

    def close(self) -> None:
        lib.iblb_close(self.handle)


class Program:
    """Serves in a thread, and notes what it was asked."""

    def __init__(self, segment: str, answer: Answer = lambda asked: None, **options: Any) -> None:
        self.serving = Serving(segment, **options)
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.codes: list[int] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            try:
                taken = self.serving.next(50)
            except NoSegment:  # removed by its worker
                return
            if taken is None:
                continue
            command, asked = taken
            self.asked.append(asked)
            try:
                said = self.answer(asked)
            except Exception as error:
                self.codes.append(self.serving.fail(command, str(error)))
            else:
                if said is not LEFT:
                    self.codes.append(self.serving.answer(command, said))

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._ended = True
        self._thread.join(5)
        self.serving.close()


def main(segment: str, log: str) -> None:
    """Serve for ever, and write down each command that was taken, before it is answered."""
    serving = Serving(segment, name='camera')
    print('ready', flush=True)
    with open(log, 'a', encoding='utf-8', buffering=1) as file:
        while True:
            if (taken := serving.next(200)) is not None:
                command, asked = taken
                file.write(json.dumps(asked) + '\n')
                serving.answer(command, {'took': command})


def take_and_sleep(segment: str) -> None:
    """Take one command, and never answer it."""
    serving = Serving(segment)
    print('ready', flush=True)
    while not serving.next(1000):
        pass
    print('taken', flush=True)
    time.sleep(1000)


def flood(port: str, *sources: str) -> None:
    """Send what nobody wants to hear, from several addresses, some thousand datagrams a second."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in sources]
    for sock, source in zip(sockets, sources, strict=True):
        sock.bind((source, 0))
    print('ready', flush=True)
    while True:
        for sock in sockets:
            for datagram in (b'[2, "ref", null]', b'\xff\x00', b'[' * 100):
                sock.sendto(datagram, ('127.0.0.1', int(port)))
        time.sleep(0.001)

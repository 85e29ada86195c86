"""A service as a laboratory writes it: plain iblutil, which answers each message and notes what it heard.

    service.py NAME FILE

Says ``READY <port>``; the notes go to FILE, one line of JSON each.
"""

import asyncio
import json
import socket
import sys

from iblutil.io import net


async def serve(name: str, notes: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    com = await net.app.EchoProtocol.server(f'udp://127.0.0.1:{port}', name=name)

    def answer(event: int):
        async def reply(data, addr) -> None:
            with open(notes, 'a', encoding='utf-8') as file:
                file.write(json.dumps([net.base.ExpMessage(event).name, *data]) + '\n')
            await com.confirmed_send([event, *data], addr=addr)

        return lambda data, addr: asyncio.ensure_future(reply(data, addr))

    for message in net.base.ExpMessage:
        com.assign_callback(message, answer(int(message)))
    print(f'READY {port}', flush=True)
    await asyncio.Event().wait()


asyncio.SelectorEventLoop().run_until_complete(serve(*sys.argv[1:]))

"""A service of your own: a lamp that is on while an experiment runs. Copy it, and put your device where the lamp is.

    python lamp.py [ADDRESS:PORT]      the address of this PC that the rig reaches; default 127.0.0.1:11001
"""

import asyncio
import sys

from iblutil.io.net.app import EchoProtocol
from iblutil.io.net.base import ExpMessage

STATUS = {'EXPINIT': 10, 'EXPSTART': 20, 'EXPEND': 30, 'EXPINTERRUPT': 30, 'EXPCLEANUP': 0}  # what each leads to
lamp = {'status': 0, 'exp_ref': None, 'on': False}


def work(message, data):
    """Do what a message asks for, quickly, and return the reply. An exception is told to who asked."""
    if message == 'EXPSTART':
        lamp.update(exp_ref=data[0], on=True)
    elif message in STATUS:
        lamp.update(on=False)
    if message == 'EXPCLEANUP':
        lamp.update(exp_ref=None)  # it belongs to no experiment any more
    lamp['status'] = STATUS.get(message, lamp['status'])
    return {'EXPSTATUS': [lamp['status']], 'EXPINFO': [lamp['status'], lamp]}.get(message, [lamp])


async def serve(address):
    """Answer until iblutil closes the socket, as it does when a reply is not confirmed."""
    service = await EchoProtocol.server(address, name='lamp')
    replies = set()

    def answer(message, data, caller):
        reply = asyncio.ensure_future(service.confirmed_send([message, *work(message.name, data)], addr=caller))
        replies.add(reply)  # or Python might forget it halfway
        reply.add_done_callback(replies.discard)

    for message in (ExpMessage[name] for name in [*STATUS, 'EXPSTATUS', 'EXPINFO']):
        service.assign_callback(message, lambda data, caller, message=message: answer(message, data, caller))
    await service.on_connection_lost


async def main(address='127.0.0.1:11001'):
    """Serve, and open anew whenever the socket was closed."""
    while True:
        await serve(address)


if __name__ == '__main__':
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        print('the lamp is off')

"""A simulated camera that masters command: your program as a service, in Python. Put your device in its place.

    python camera.py SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]

EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
README.md tells how to run it.
"""

import functools
import sys
import threading
import time

from bridge import BridgeError, Service

FRAME_S = 0.01


class Camera:
    """A simulated camera: counts frames in a thread while it records."""

    def __init__(self, dies_after, died):
        self.is_warm = False
        self.frames = 0
        self._dies_after, self._died = dies_after, died
        self._stop = threading.Event()
        self._thread = None

    def start(self):
        """Record from now on."""
        self.stop()
        self.frames = 0
        self._stop.clear()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def stop(self):
        """Record no more; return how many frames there are."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        return self.frames

    def _record(self):
        while not self._stop.wait(FRAME_S):
            self.frames += 1
            if self.frames * FRAME_S >= self._dies_after > 0:
                self.is_warm = False
                self._died(self.frames)
                return


def shown(work):
    """Print what becomes of a command."""

    @functools.wraps(work)
    def handler(command):
        print(f'{command.message} from {command.master}', flush=True)
        try:
            data = work(command)
            if command.interrupted:  # it came while we were at work
                raise RuntimeError(f'An EXPINTERRUPT overtook this {command.message}.')
            in_time = command.answer(data=data)
        except Exception as error:
            print(f'{command.message}: failed, {error}', flush=True)
            raise  # to the master, who is told
        print(f'{command.message}: {"done" if in_time else "too late, its master was told that it failed"}', flush=True)

    return handler


def serve(segment, service, warm_up, dies_after):
    """Do what masters ask until Ctrl-C."""
    program = Service(segment, service, 'camera')
    camera = Camera(
        dies_after, lambda frames: program.tell('EXPINTERRUPT', {'why': 'The camera died.', 'frames': frames})
    )

    @program.on('EXPINIT')
    @shown
    def prepare(command):
        warm = time.monotonic() + warm_up
        while time.monotonic() < warm and not command.interrupted:
            time.sleep(0.01)
        camera.is_warm = True

    @program.on('EXPSTART')
    @shown
    def start(command):
        if not camera.is_warm:
            raise RuntimeError('The camera is cold. Send EXPINIT first.')
        camera.start()
        if command.interrupted:
            camera.stop()
        return {'file': f'{command.args[0]}.avi'}

    @program.on('EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT')  # the last one in a thread of its own, also during the others
    @shown
    def end(command):
        return {'frames': camera.stop()}

    print(f'serving {service or "the listener"} at {segment}', flush=True)
    program.run()


def main(segment='', service='', warm_up='0.1', dies_after='0'):
    """Serve; return the exit status."""
    if not segment:
        print('usage: python camera.py SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]', file=sys.stderr)
        return 2
    try:
        serve(segment, service, float(warm_up), float(dies_after))
    except KeyboardInterrupt:
        return 0
    except BridgeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))

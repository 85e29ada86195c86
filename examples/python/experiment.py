"""A whole experiment from Python. What an acquisition program does, without the acquisition.

    python experiment.py SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]

Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to run it.
"""

import sys

from bridge import BridgeError, Client, OutcomeUnknown

QUESTION = 0.1  # s, for a question that is not worth waiting for
EXPERIMENT = 1.0  # s, how long the animal works


def reference_of(info):
    """Return the experiment a service belongs to; a service may say anything about itself."""
    return (isinstance(info, dict) and info.get('exp_ref')) or 'no experiment'


def show(response):
    """Print what each service did, or what it said of itself."""
    for service in response['services']:
        words = service['state']
        if service['error']:
            words += f', {service["error"]}'
        elif response['message'] == 'EXPINFO' and service['status'] >= 0:
            words = f'status {service["status"]}, {reference_of(service["data"].get("info"))}'
        print(f'  {service["name"]}: {words}')


def answered(name, response):
    """Print that a command was carried out, or what to be warned of, and what each service did."""
    if response['code'] > 0:  # such as IBLB_W_STATUS: a service was told EXPEND, and says that it still runs
        print(f'{name}: warning ({response["code"]}): {response["error"]}')
    else:
        print(f'{name}: done')
    show(response)
    return True


def failed(name, error):
    """Print why a command failed, and what became of it at each service."""
    print(f'{name}: failed ({error.code}): {error.text}')
    if error.response:
        show(error.response)
    return False


def tell(rig, name, *arguments):
    """Command all services and wait until each has done it; return whether none failed."""
    try:
        response = rig.call(name, *arguments)
    except BridgeError as error:
        return failed(name, error)
    return answered(name, response)


def ask(rig, name):
    """Ask something that is given up if the answer takes too long."""
    request = rig.send(name)
    try:
        response = rig.wait(request, QUESTION)
    except OutcomeUnknown:
        rig.cancel(request)
        print(f'{name}: cancelled')
        return True
    except BridgeError as error:
        return failed(name, error)
    return answered(name, response)


def watch(rig):
    """Here the animal works; return early if a service gives up."""
    try:
        event = rig.next_event(EXPERIMENT)
    except BridgeError as error:
        print(f'event: failed ({error.code}): {error.text}')
    else:
        if event:
            print(f'event {event["event"]} from {event["service"]}')


def experiment(rig, reference):
    """Run an experiment; return whether all went well."""
    rig.subscribe('EXPINTERRUPT')
    if not tell(rig, 'EXPINIT'):
        return False
    fine = tell(rig, 'EXPSTART', reference)
    if fine:
        watch(rig)
        fine = ask(rig, 'EXPSTATUS') and tell(rig, 'EXPINFO') and tell(rig, 'EXPEND')
    if not fine:
        tell(rig, 'EXPINTERRUPT')  # a camera may run, even if no answer came
        return False
    return tell(rig, 'EXPCLEANUP')


def main(segment='', reference='2026-01-01_1_subject', client='experiment'):
    """Run an experiment on a segment; return the exit status."""
    if not segment:
        print('usage: python experiment.py SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]', file=sys.stderr)
        return 2
    try:
        with Client(segment, client, timeout=2) as rig:
            if not rig.worker_state().alive:
                print(f'no worker serves {segment}: start it', file=sys.stderr)
                return 1
            return 0 if experiment(rig, reference) else 1
    except BridgeError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))

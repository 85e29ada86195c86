"""What test_ends.py asks of every client, with the Python one."""

import contextlib
import gc
import warnings

from bridge import Client

warnings.simplefilter('ignore', ResourceWarning)
Client('rig0', 'closed').close()
with Client('rig0', 'closed'):
    pass
Client('rig0', 'abandoned').abandon()
with contextlib.suppress(KeyError), Client('rig0', 'thrown'):
    raise KeyError
Client('rig0', 'forgotten')
gc.collect()
left = Client('rig0', 'left')

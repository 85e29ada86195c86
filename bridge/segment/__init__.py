"""Shared memory: what programs and the worker say to each other through a segment.

============  =============================================================================
`library`     libiblbridge through cffi
`client`      a program's side: `Client` sends commands and waits for the responses
`calls`       what takes more than one call of the library; `patience`: waits in slices, for Ctrl-C
`aio`         the same for asyncio: `AsyncClient`
`served`      the worker's side: `Segment` gives what was `Taken`, and takes the responses
`payload`     what arrives: messages, arguments, addressed services; `references`: those of experiments
`response`    what goes out: the bodies of responses and events
`inspection`  what lies in the directory and who owns it; removes what nobody owns
`kept`        what is kept beside the segment for the next worker
`ports`       of that the local ports that services know the rig by
`losses`      of that what is still to be sent for clients that died: values only
`carrier`     commands through a worker, for `bridge.Auxiliaries.from_segment`
============  =============================================================================

It knows nothing of the network, as `bridge.services` knows nothing of it; `bridge.worker` joins the two. Importing this
package loads no library; most of its modules do.
"""

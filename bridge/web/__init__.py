"""The status page of a rig, in a browser: what there is to see is a value, and a process of its own shows it.

- `board` is what is known of the rig, from what the worker tells those who watch closely and from the segment's file.
- `follow` keeps a board up to date; `server` serves it, as a page, as JSON and to Prometheus (`metrics`).
- `guard` decides who may read and who may press the button; `address` is where the page is.
- ``static`` is the page. There is no build step: a browser gets the files as they are.

It is a process beside the worker's, which starts and ends it: whatever browsers ask, and whatever becomes of the page,
no command waits for it. It reads as ``iblbridge watch`` does, and commands as ``iblbridge send`` does.
"""

"""A package, so that a file in it may be named as one in ``tests``; what they share is found all the same."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / 'crash'), str(HERE.parent / 'c')]

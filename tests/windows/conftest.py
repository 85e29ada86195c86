"""These tests need Wine and what goes with it: ``.ci/windows`` runs them. Elsewhere they are left out."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get('WINE') else ['*']

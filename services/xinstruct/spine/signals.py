"""What SIGTERM does to a process that has nothing to drain yet."""

from __future__ import annotations

import os
import signal

TERMINATED_EXIT = 128 + signal.SIGTERM
"""As of a process that had no handler: what it was to do is not done."""


def leave_at_sigterm() -> None:
    """From now on SIGTERM ends the process at once, with TERMINATED_EXIT, until another handler takes this one's place.

    The kernel gives the first process of a pod no default action: without this, SIGTERM would do nothing while a
    database is waited for or a model is loaded, and the pod be killed at the end of its grace. Not covered: the second
    before the call, in which Python imports its caller.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED_EXIT))

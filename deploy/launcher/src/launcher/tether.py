"""Runs a program that cannot outlive its parent: ``tether.py PARENT_PID PROGRAM [ARGUMENT...]``.

The kernel sends the program SIGKILL when the thread that started it ends, however that happened (prctl(2),
PR_SET_PDEATHSIG); the setting survives the exec below. It is a program of its own because a preexec_fn is not safe in a
process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"tether: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # the parent was gone before the tie was made
        sys.exit(f"tether: process {parent}, which started this one, has ended")
    try:
        os.execv(program[0], program)  # noqa: S606 - the launcher's own command line, no shell wanted
    except OSError as error:
        sys.exit(f"tether: cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()

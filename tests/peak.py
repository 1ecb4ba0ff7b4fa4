"""Run a command and tell its peak memory: python tests/peak.py GIGABYTES COMMAND...

Exit status 1 where any of its processes had more than that many GB of resident
memory at any time, otherwise that of the command. Not on Windows.
"""

import resource
import subprocess
import sys
import time


def main(limit: float, command: list[str]) -> int:
    start = time.perf_counter()
    status = subprocess.run(command).returncode
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9
    print(f"{seconds:.0f} s, peak resident memory {peak:.2f} GB (limit {limit:g} GB)")
    return status or int(peak > limit)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))

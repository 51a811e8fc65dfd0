"""How long threads may spin while they wait for each other, on a machine that runs something else too.

Times segpipe's training step under each setting of GNU OpenMP, alone and with one busy process beside it, in turns.

    python benchmarks/thread_spins.py [--rounds 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict

from training_step import COMMON, OURS

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = [sys.executable, "-c", "while True: pass"]


def seconds(setting: str) -> float:
    """Return wall seconds a patch."""
    threads = "1" if setting == "one thread" else "2"
    switches = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + OURS, "2", threads],
        capture_output=True,
        text=True,
        check=True,
        env=switches | SETTINGS[setting],
    )
    figure: float = json.loads(done.stdout.splitlines()[-1])["wall_s"]
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name, beside in (("alone", False), ("beside one busy process", True)):
        other = subprocess.Popen(BUSY) if beside else None
        times: dict[str, list[float]] = defaultdict(list)
        try:
            for _ in range(rounds):
                for setting in SETTINGS:
                    times[setting].append(seconds(setting))
        finally:
            if other:
                other.kill()
        for setting, found in times.items():
            print(f"{name}, {setting}: {statistics.median(found):.2f} s a patch ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()

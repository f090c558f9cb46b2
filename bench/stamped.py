"""Run a training program and note when each optimizer step ends: `python bench/stamped.py NOTES PROGRAM ...`.

A line of NOTES has the seconds of the clock, those of all processors, and the peak memory in bytes; the workers of the
program are in it. The program is run as it is.
"""

import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    """Run the program with a hook after every optimizer step."""
    notes, program, *arguments = sys.argv[1:]
    out = Path(notes).open("w", buffering=1)
    own = psutil.Process()

    def stamp(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        workers = own.children(recursive=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = time.process_time() + sum(sum(worker.cpu_times()[:2]) for worker in workers)
        busy += ended.ru_utime + ended.ru_stime
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak += sum(worker.memory_info().rss for worker in workers)
        out.write(f"{time.perf_counter()} {busy} {peak}\n")

    register_optimizer_step_post_hook(stamp)
    sys.argv = [program, *arguments]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()

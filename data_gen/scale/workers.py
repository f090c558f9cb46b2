"""Worker processes: each leases a shard, makes its pairs, and takes the next one.

This process reads what they say on their output, one JSON object a line, and shows the progress of all. The input of a
worker is its order, then "stop" if it is to end after its shard. Where the input ends, this process has ended, and the
worker does so at once. All of them have the lock of the folder, which ends with the last one.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from ip2p import errors
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import DataError, Ip2pError
from ip2p.progress import StageProgress

if TYPE_CHECKING:
    from ip2p.data_gen.stages import ShardOutcome, Stages

RESUME = "All finished shards are kept: mend that, and the same command goes on from here"
STOP = "stop\n"
Inbox = queue.SimpleQueue[tuple["Worker", dict[str, Any] | None]]


class Order(BaseModel):
    """Orders to a worker: the build, and the shards to choose from."""

    config: DatasetConfig
    origins: dict[str, str]
    shards: list[int]


class Worker(NamedTuple):
    """A worker process and its number, from 1."""

    number: int
    process: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Write a line to the worker, unless it has ended."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def listen(self, inbox: Inbox) -> None:
        """Put what the worker says into an inbox, and None when it has ended."""
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def end(self) -> None:
        """End the worker at once, if it runs, and wait for that."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def find_fault(self) -> Ip2pError | None:
        """Return the error of a worker that has ended without saying one; None if it ended well."""
        code = self.process.wait()
        if not code:
            return None
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        more = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return DataError(f"worker {self.number} was {how}{more}", RESUME)


def run_workers(
    stages: "Stages", shards: Sequence[int], count: int, lock: int, progress: StageProgress
) -> "Iterator[ShardOutcome]":
    """Make the pairs of shards by worker processes; yields each finished shard.

    Args:
        stages: stages of the build.
        shards: indices of the shards.
        count: number of workers.
        lock: open file that has the lock of the folder; workers inherit it.
        progress: progress of all candidates.

    Raises:
        Ip2pError: the first error of a worker, after the others have finished their shards.
    """
    order = Order(config=stages.config, origins=stages.build_folder.origins, shards=list(shards))
    inbox: Inbox = queue.SimpleQueue()
    workers = [_start(number, lock, stages.config.pairs.threads) for number in range(1, count + 1)]
    listeners = [threading.Thread(target=worker.listen, args=(inbox,), daemon=True) for worker in workers]
    try:
        for worker, listener in zip(workers, listeners, strict=True):
            listener.start()
            worker.tell(json.dumps(order.model_dump(mode="json")) + "\n")  # ASCII, whatever the locale
        yield from _collect(workers, inbox, stages, progress)
    finally:
        for worker, listener in zip(workers, listeners, strict=True):
            worker.end()
            listener.join()


def _collect(
    workers: Sequence[Worker], inbox: Inbox, stages: "Stages", progress: StageProgress
) -> "Iterator[ShardOutcome]":
    """Yield finished shards until all workers have ended; after the first error, each finishes its shard."""
    from ip2p.data_gen.stages import ShardOutcome

    running, failure = set(workers), None
    while running:
        worker, said = inbox.get()
        fault = None
        if said is None:
            running.remove(worker)
            fault = worker.find_fault()
        elif "error" in said:
            fault = getattr(errors, said["error"])(said["what"], said["fix"])
        elif "outcome" in said:
            yield ShardOutcome(**said["outcome"])
        elif "say" in said:
            stages.say(said["say"])
        else:
            progress.advance(said["advance"])
        if fault and not failure:
            failure = fault
            for each in running:
                each.tell(STOP)
            if running:
                stages.say(f"{fault.what}; the other workers finish their shards")
    if failure:
        raise failure


def _start(number: int, lock: int, threads: int) -> Worker:
    """Start a worker with the modules of this process, and with a GPU of its own if there are several."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(threads)}
    if gpus := _visible_gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[(number - 1) % len(gpus)]
    command = [sys.executable, "-P", "-m", "ip2p.data_gen.scale.worker"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C is for this process, which ends the workers
    )  # fmt: skip
    return Worker(number, process)


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process sees, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]

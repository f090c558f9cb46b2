"""A worker process: `python -m ip2p.data_gen.scale.worker`, started by `ip2p.data_gen.scale.workers`."""

import json
import os
import sys
import threading
import traceback
from typing import Any, TextIO

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.scale.workers import RESUME, STOP, Order
from ip2p.data_gen.stages import Stages
from ip2p.errors import Ip2pError, one_line
from ip2p.progress import StageProgress


class Channel:
    """The way to the process that started this one: one JSON object a line.

    Args:
        stream: stream that nobody else writes to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def send(self, **said: Any) -> None:
        """Send an object."""
        self.stream.write(json.dumps(said) + "\n")
        self.stream.flush()


class SentProgress(StageProgress):
    """Progress that another process shows.

    Args:
        channel: way to it.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__("", "", total=0, done=0, say=lambda _: None, active=False)
        self.channel = channel

    def advance(self, count: int, note: str = "") -> None:
        """Send the count."""
        self.channel.send(advance=count)


def main() -> int:
    """Make shards until none is left, or this process is to stop."""
    channel = Channel(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # libraries may print
    order = Order.model_validate(json.loads(sys.stdin.readline()))
    stopped = threading.Event()
    threading.Thread(target=_obey, args=(stopped,), daemon=True).start()
    stages = Stages(BuildFolder(order.config, order.origins), lambda line: channel.send(say=line))
    progress = SentProgress(channel)
    for index in order.shards:
        if stopped.is_set():
            break
        try:
            if index in stages.unfinished_pairs([index]) and (outcome := stages.make_pairs(index, progress)):
                channel.send(outcome=outcome._asdict())
        except Ip2pError as error:
            channel.send(error=type(error).__name__, what=error.what, fix=error.fix)
            break
        except Exception as error:
            traceback.print_exc()
            what = f"a worker has failed at shard {index} ({type(error).__name__}: {one_line(error)})"
            channel.send(error="DataError", what=what, fix=RESUME)
            break
    return 0


def _obey(stopped: threading.Event) -> None:
    """Wait for the word to stop after this shard; end at once when the other process has ended."""
    if sys.stdin.readline() == STOP:
        stopped.set()
        sys.stdin.readline()
    os._exit(1)


if __name__ == "__main__":
    os._exit(main())  # a thread is still reading, which an orderly end would wait for

"""A run of the API writer that is killed repeatedly: no answer is lost or doubled, and the budget holds."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server, answer_by_rules, read_question

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.records import Caption, Reason, content_id
from ip2p.remote.ledger import LEDGER_FILE, Ledger

DRIVER = """
import os, sys
from pathlib import Path
from ip2p.data_gen.config import TriplesConfig
from ip2p.remote import client
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import WriterError
from ip2p.records import Caption, content_id

client.ROUND_PAUSE = 0.01
url, folder, limit = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
rows = [Caption(id=content_id(t), text=t, source="t") for t in
        (f"a red barn, number {n}, by a lake" for n in range(int(sys.argv[4])))]
for line in sys.stdin:  # each line is a run of its own, in a process of its own
    child = os.fork()
    if not child:
        price = {"price_in": 10.0, "price_out": 40.0, "max_usd": limit}
        settings = TriplesConfig(writer="openai", model="m", base_url=url, parallel=16, **price)
        try:
            ApiWriter(settings, folder, seed=0, say=lambda line: None).prepare(rows, 1)
        except WriterError as error:
            print(f"error {error}", flush=True)
            os._exit(2)
        print("done", flush=True)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def barns(count: int) -> list[Caption]:
    """Return the driver's captions, all different."""
    texts = [f"a red barn, number {number}, by a lake" for number in range(count)]
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def bill(request: dict[str, Any]) -> float:
    """Return the cost of a request at 10 and 40 USD per million tokens."""
    usage = json.loads(answer_by_rules({k: v for k, v in request.items() if k != "authorization"}).body)["usage"]
    return (10 * usage["prompt_tokens"] + 40 * usage["completion_tokens"]) / 1e6


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_doubled_or_overspent(server: Server, tmp_path: Path) -> None:
    count, rng = 400, random.Random(3)
    server.script = lambda request: answer_by_rules(request)._replace(delay=0.02)
    limit = 400 * 0.025
    command = [sys.executable, "-c", DRIVER, server.url, str(tmp_path), str(limit), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    kills = runs = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stdin and driver.stdout
        for _ in range(60):
            runs += 1
            driver.stdin.write("go\n")
            driver.stdin.flush()
            child = int(driver.stdout.readline())
            if kills < 20:
                known = len(server.requests)
                while len(server.requests) < known + 1 + rng.randrange(16):
                    time.sleep(0.001)
                time.sleep(rng.random() * 0.03)
                os.kill(child, signal.SIGKILL)
                kills += 1
            outcome = list(iter(driver.stdout.readline, "ended\n"))
            with Ledger(tmp_path / LEDGER_FILE) as ledger:
                assert ledger.spent.usd <= limit
            if outcome == ["done\n"]:
                break
        driver.stdin.close()
    assert kills == 20 and outcome == ["done\n"] and runs == 21
    time.sleep(0.1)
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert len(ledger.answers) == count
        assert ledger.requests >= len(server.requests), "every request was reserved before it left"
        assert sum(bill(request) for request in server.requests) <= ledger.spent.usd + 1e-9
    captions_asked = Counter(read_question(request)["caption"] for request in server.requests)
    assert len(captions_asked) == count and len(server.requests) <= count + 20 * 16
    settings = TriplesConfig(writer="openai", model="m", base_url=server.url, price_in=10.0, price_out=40.0)
    writer, rows = ApiWriter(settings, tmp_path, seed=0, say=lambda line: None), barns(count)
    assert [few[0].reason for few in writer.write(rows, 1)] == [Reason.OK] * count
    writer.close()

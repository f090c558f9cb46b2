"""The review page: its choice of pairs, hostile texts, and what its keys do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ip2p.data_gen.report.pairs_page import ShownPair
from ip2p.data_gen.report.review_page import choose_for_review, render_review
from ip2p.data_gen.rows import FilteredShard, to_png
from ip2p.records import Candidate, Reason, Triple

HOSTILE = "</script><script>alert('x')</script>\"><img src=x onerror=y>"
PICTURE = to_png(Image.new("RGB", (8, 8), "red"))["bytes"]
STUB = """
const elements = {}, listeners = {};
const element = id => elements[id] ??= {
  id, hidden: true, textContent: "", on: {}, addEventListener(kind, run) { this.on[kind] = run; }, click() {}};
const stored = STORED;
globalThis.document = {getElementById: element, createElement: () => element("link"),
  addEventListener: (kind, run) => { listeners[kind] = run; }};
globalThis.localStorage = {getItem: () => stored.marks ?? null, setItem: (_, value) => { stored.marks = value; }};
globalThis.Blob = class { constructor(parts) { stored.csv = parts.join(""); } };
globalThis.URL = {createObjectURL: () => "blob:x"};
const press = key => listeners.keydown({key, preventDefault() {}});
const shown = () => ids.filter(id => !element(id).hidden);
"""


def triple(**others: Any) -> Triple:
    """Make a triple."""
    values = {"id": "t", "caption_id": "c", "caption": "a barn", "instruction": "make it night", "kind": "time"}
    return Triple.model_validate(values | {"edited_caption": "a barn at night", "writer": "rules"} | others)


def candidate(name: str, reason: Reason = Reason.OK) -> Candidate:
    """Make a decided candidate."""
    status = "refused" if reason else "ok"
    values = {"id": name, "triple_id": "t", "seed": 1, "p": 0.5, "cfg": 4.0, "steps": 3}
    return Candidate.model_validate(values | {"status": status, "reason": reason})


def shards(kept: int, refused: int) -> list[FilteredShard]:
    """Make two shards, with an unsafe candidate that nobody should see."""
    candidates = [candidate(f"kept{n}") for n in range(kept)]
    candidates += [candidate(f"refused{n}", Reason.LOW_IMAGE) for n in range(refused)]
    candidates.append(candidate("unsafe", Reason.UNSAFE))
    return [FilteredShard([triple()], candidates[0::2], 0, {}), FilteredShard([triple()], candidates[1::2], 0, {})]


@pytest.mark.parametrize(("kept", "refused", "count", "of_kept"), [(50, 50, 20, 10), (3, 50, 20, 3), (50, 3, 20, 17)])
def test_half_are_kept_and_half_refused_where_there_are_as_many(
    kept: int, refused: int, count: int, of_kept: int
) -> None:
    ids = choose_for_review(shards(kept, refused), count)
    assert len(set(ids)) == count and "unsafe" not in ids
    assert sum(name.startswith("kept") for name in ids) == of_kept
    assert ids == choose_for_review(shards(kept, refused), count)
    assert ids[:of_kept] != sorted(ids)[:of_kept], "kept and refused ones are mixed"


def test_all_are_chosen_where_there_are_fewer() -> None:
    assert len(choose_for_review(shards(3, 4), 200)) == 7


def test_hostile_texts_stay_texts_and_nothing_tells_the_verdict() -> None:
    bad = triple(caption=HOSTILE, instruction=HOSTILE, edited_caption=HOSTILE)
    page = render_review([ShownPair(candidate("a", Reason.LOW_IMAGE), bad, PICTURE, PICTURE)], HOSTILE)
    assert page.count("<script>") == page.count("</script>") == 1 and "onerror=y>" not in page
    assert "low_image" not in page and "refused" not in page
    assert not re.search(r'(src|href)="(?!data:image/jpeg)', page)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node, which runs the script of the page")
def test_keys_mark_pairs_and_save_them_as_csv(tmp_path: Path) -> None:
    pairs = [ShownPair(candidate(name), triple(), PICTURE, PICTURE) for name in ("a", "b", "c")]
    script = re.findall(r"<script>(.*)</script>", render_review(pairs, "f"), re.DOTALL)[0]

    def play(keys: str, stored: dict[str, str]) -> dict[str, Any]:
        program = STUB.replace("STORED", json.dumps(stored)) + script
        program += f"for (const key of {json.dumps(keys)}) press(key); save();"
        program += 'console.log(JSON.stringify({...stored, shown: shown(), count: element("count").textContent, '
        program += 'done: !element("done").hidden}));'
        file = tmp_path / "page.js"
        file.write_text(program)
        done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    after = play("gBxub", {})
    assert after["csv"] == "id,label\na,good\nb,bad\n"
    assert (after["shown"], after["count"], after["done"]) == (["c"], "2 of 3 marked", False)
    later = play("gggg", {"marks": after["marks"]})
    assert later["csv"] == "id,label\na,good\nb,bad\nc,good\n" and later["shown"] == [] and later["done"]

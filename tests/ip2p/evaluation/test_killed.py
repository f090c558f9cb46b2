"""An evaluation that SIGKILL ends at several points, also while it writes its report, ends with the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

POINTS = (6, 9, 9, 3)
"""Files that sessions have moved into place, one by one, when they are killed: before a part, between both files of a
part, after the page and before the report, twice."""
WORKER = """
import os, signal, sys, warnings
from pathlib import Path
from ip2p.evaluation import draw
from ip2p.evaluation.load import evaluate_model, load_storybook
from ip2p.evaluation.methods import Extent

warnings.simplefilter("ignore")
draw.BATCH_SIZE = 2
editor, base, out = sys.argv[1:4]

def run(folder, kill_at):
    moved = 0

    def before_a_file_is_moved(event, _):
        nonlocal moved
        if event == "os.rename":
            moved += 1
            if moved == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(before_a_file_is_moved)
    extent = Extent(("editor", "bound", "copy", "text"), quick=True, baseline_samples=3)
    evaluate_model(
        editor, base, load_storybook(3, 5, free=False), seed=5, out=Path(out) / folder, extent=extent,
        clip_name="storybook-clip-a", say=lambda _: None,
    )

for folder, kill_at in [("whole", 0), *(("killed", int(each)) for each in sys.argv[4:]), ("killed", 0)]:
    child = os.fork()  # before anything is computed, so that there are no threads to lose
    if child == 0:
        run(folder, kill_at)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = len(list((Path(out) / folder / "parts").glob("*/shard-*.json")))
    print(folder, status, done, (Path(out) / folder / "evaluation.json").exists(), flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_point_an_evaluation_ends_with_the_same_bytes(
    editor_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(
        [sys.executable, "-c", WORKER, editor_folder, base_folder, tmp_path, *map(str, POINTS)],
        env=environment, capture_output=True, text=True, timeout=280, check=True,
    )  # fmt: skip
    sessions = [line.split() for line in found.stdout.splitlines()]
    assert [status for _, status, _, _ in sessions] == ["0", *["-9"] * len(POINTS), "0"], found.stderr
    assert [int(done) for _, _, done, _ in sessions] == [8, 2, 5, 8, 8, 8]  # no part is measured again
    assert [written for *_, written in sessions] == ["True", *["False"] * len(POINTS), "True"]
    whole, killed = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "killed")
    )
    assert killed == whole

"""Two processes that are stopped, by a signal to one of them and by SIGKILL, go on as if they had not been."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = """
import os, signal, sys
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from ip2p.config import load_config
from ip2p.train import fit as training
from ip2p.train.config import FinetuneConfig

def dies(number):
    step = training.Run.step
    def at_five(self):
        taken = step(self)
        if self.state.step == 4 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), number)
        return taken
    return at_five

Accelerator.end_training = lambda self: None  # which would end what the next run needs
whole = training.Run.step
for argument in sys.argv[2:]:
    out, _, number = argument.partition(":")
    training.Run.step = dies(int(number)) if number else whole
    AcceleratorState._reset_state(reset_partial_state=True)
    outcome = training.fit(load_config(FinetuneConfig, sys.argv[1], [f"out={out}"]), say=lambda _: None)
    with open(f"{out}-ended-{os.environ['RANK']}", "a") as file:  # on one pipe, lines of two processes may mix
        print(outcome.step, outcome.exit_code, file=file)
    training.Run.step = whole
"""


@pytest.mark.slow
def test_two_processes_that_are_stopped_equal_those_that_are_not(
    tiny_base: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    settings = {
        "base": tiny_base, "dataset": pairs_folder, "steps": 20, "batch": 2, "size": 32, "precision": "fp32",
        "threads": 1, "checkpoint_every": 3, "validate_every": 1000, "optimizer": "adamw", "warmup": 2,
        "train_text_encoder": "false", "attention": "sdpa", "schedule": "cosine",
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    (tmp_path / "worker.py").write_text(WORKER)
    whole, asked, killed = (tmp_path / name for name in ("whole", "asked", "killed"))

    def launch(*runs: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", tmp_path / "worker.py"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(
            [*map(str, command), str(tmp_path / "run.yaml"), *runs], env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip

    first = launch(str(whole), f"{asked}:10", str(asked), f"{killed}:9")
    assert first.returncode and not (killed / "editor").exists()
    ended = [(tmp_path / f"asked-ended-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert ended == [["5 138", "20 0"]] * 2, first.stderr  # both, though one had the signal
    second = launch(str(killed))
    assert second.returncode == 0, second.stderr
    weights = [
        {file.name: load_file(file) for file in (out / "checkpoints" / "step-00000020").glob("*.safetensors")}
        for out in (whole, asked, killed)
    ]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys() and len(other) == 2
        for name, tensors in weights[0].items():
            assert all(torch.equal(tensor, other[name][key]) for key, tensor in tensors.items())

"""Measure training beside diffusers' script: `make bench-train`, or `python bench/train.py [--peer-script FILE]`.

The same weights, pairs and work: Stable Diffusion 1.5's proportions at a fraction of its width, with heads as wide as
its own and random weights; JPEGs of 512 px trained at 256 px, mirrored at random; moving average; AdamW. The peer is
that script's loop, written plainly in bench/plain_training.py, and the script itself if its file is given; it decodes
in workers. Programs take turns of some steps, the others being stopped meanwhile, and medians are compared, in seconds
of the clock and of the processors: on a shared machine the latter mean more. Steps that a turn cuts are not counted.
The kept latents are made beforehand and timed apart.
"""

import argparse
import io
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from datasets import Dataset, Features, Image, Value
from figures import require_figures, write_figures
from PIL.Image import Image as Picture
from rich.console import Console
from rich.table import Table

from ip2p.config import load_config
from ip2p.errors import Ip2pError, run_program
from ip2p.evaluation.samples import storybook_samples
from ip2p.models.backbone import Backbone, load_backbone, save_backbone
from ip2p.models.bundled import DEFAULT_BASE
from ip2p.models.loading import quiet
from ip2p.train.batches import Batches
from ip2p.train.config import FinetuneConfig
from ip2p.train.pairs import open_pairs
from ip2p.train.ranks import Ranks

HERE = Path(__file__).parent
PLAIN, SCRIPT, OURS, KEPT = "script's loop", "script", "ip2p", "ip2p, kept latents"
SEED = 7
SIDE, STORED_SIDE = 256, 512
MANY = 10_000_000
"""More steps than are taken."""
POLL = 0.02
EPOCHS = (3, 10, 30)
"""Epochs over which the time of making latents is spread."""


@dataclass
class Way:
    """A program that trains.

    Attributes:
        process: the program, in a process group of its own.
        notes: file of its stamps, see bench/stamped.py.
        clock, busy: seconds of whole steps, of the clock and of the processors.
    """

    process: subprocess.Popen[bytes]
    notes: Path
    log: Path
    clock: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, command: Sequence[str], folder: Path) -> "Way":
        """Start a program, and let it take two steps to warm up."""
        stem = name.replace(" ", "-").replace(",", "").replace("'", "")
        notes, log = folder / f"{stem}.notes", folder / f"{stem}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "stamped.py"), str(notes), *command], stdout=stream, stderr=stream,
                start_new_session=True, env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
            )  # fmt: skip
        made = cls(process, notes, log)
        made._wait_for(2)
        os.killpg(process.pid, signal.SIGSTOP)
        return made

    def take_turn(self, steps: int) -> None:
        """Let it take some whole steps."""
        before = len(self._stamps())
        os.killpg(self.process.pid, signal.SIGCONT)
        self._wait_for(before + 1 + steps)
        os.killpg(self.process.pid, signal.SIGSTOP)
        stamps = self._stamps()[before : before + 1 + steps]  # the first ends the step that the last turn cut
        for one, next_ in zip(stamps, stamps[1:], strict=False):
            self.clock.append(next_[0] - one[0])
            self.busy.append(next_[1] - one[1])

    def end(self) -> None:
        """Kill it, with its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def peak(self) -> float:
        """Largest memory so far, in bytes."""
        return max(stamp[2] for stamp in self._stamps())

    def _wait_for(self, count: int) -> None:
        while len(self._stamps()) < count:
            if self.process.poll() is not None:
                last = (self.log.read_text().strip().splitlines() or ["nothing"])[-1]
                raise Ip2pError(f"the program ended: {last}", f"Its output is in {self.log}")
            time.sleep(POLL)

    def _stamps(self) -> list[tuple[float, float, float]]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        rows = [line.split() for line in lines]
        return [(float(row[0]), float(row[1]), float(row[2])) for row in rows if len(row) == 3]


def write_base(folder: Path, fraction: int) -> Path:
    """Write a base model of Stable Diffusion 1.5's proportions, a fraction of its width, with random weights."""
    torch.manual_seed(SEED)
    storybook = load_backbone(DEFAULT_BASE)
    widths, groups = [320 // fraction, 640 // fraction, 1280 // fraction, 1280 // fraction], 32 // fraction
    text_width = 768 // fraction
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=4, out_channels=4, block_out_channels=widths, layers_per_block=2,
        attention_head_dim=8 // fraction, cross_attention_dim=text_width, norm_num_groups=groups,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=[128 // fraction, 256 // fraction, 512 // fraction, 512 // fraction], layers_per_block=2,
        latent_channels=4, norm_num_groups=groups, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    tokenizer = storybook.tokenizer
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=12,
            num_attention_heads=max(1, 12 // fraction), max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    tokenizer.model_max_length = 77
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    made = Backbone(
        tokenizer=tokenizer, text_encoder=text, unet=unet, vae=vae, scheduler=scheduler, name=str(folder), path=folder
    )
    save_backbone(made, folder, pipeline_class="StableDiffusionPipeline", dtype=torch.float32)
    return folder


def write_pairs(folder: Path, count: int) -> Path:
    """Write pairs of JPEGs of storybook's pictures, and one to hold out; which belong together does not matter here."""
    features = Features({"original_image": Image(), "edit_prompt": Value("string"), "edited_image": Image()})
    samples = storybook_samples(count, SEED, stage="bench")
    files = [{"bytes": as_jpeg(sample.load().source), "path": None} for sample in samples]
    rows = [
        {"original_image": file, "edit_prompt": sample.instruction, "edited_image": other}
        for file, other, sample in zip(files, files[1:] + files[:1], samples, strict=True)
    ]
    folder.mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "train-00000.parquet")
    Dataset.from_list(rows[:1], features=features).to_parquet(folder / "test-00000.parquet")
    return folder


def as_jpeg(image: Picture) -> bytes:
    """Return a picture as the file of a photograph would be."""
    stream = io.BytesIO()
    image.resize((STORED_SIDE, STORED_SIDE)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def our_settings(parsed: argparse.Namespace, folder: Path, name: str, *, kept: bool) -> list[str]:
    """Return the settings of a run of ours."""
    chosen = {
        "base": folder / "base", "dataset": folder / "pairs", "out": folder / "runs" / name, "steps": MANY,
        "minutes": "null", "batch": parsed.batch, "accumulation": 1, "size": SIDE, "flip": "true",
        "train_text_encoder": "false", "optimizer": "adamw", "learning_rate": 1e-4, "schedule": "constant", "warmup": 0,
        "ema_decay": 0.9999, "precision": parsed.precision, "threads": torch.get_num_threads(),
        "cache_latents": str(kept).lower(), "cache_folder": folder / "latents", "checkpoint_every": MANY,
        "checkpoint_minutes": MANY, "validate_every": MANY, "compile": str(parsed.compile).lower(),
    }  # fmt: skip
    return [f"{key}={value}" for key, value in chosen.items()]


def commands(parsed: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Return the programs to compare, by name."""
    flags = {
        "pretrained_model_name_or_path": folder / "base", "dataset_name": folder / "pairs", "resolution": SIDE,
        "output_dir": folder / "runs" / "script", "train_batch_size": parsed.batch, "max_train_steps": MANY,
        "checkpointing_steps": MANY, "learning_rate": 1e-4, "conditioning_dropout_prob": 0.05, "seed": SEED,
        "dataloader_num_workers": parsed.workers, "mixed_precision": {"fp32": "no"}.get(parsed.precision, "bf16"),
    }  # fmt: skip
    flags |= {f"{name}_column": name for name in ("original_image", "edit_prompt", "edited_image")}
    script = [f"--{name}={value}" for name, value in flags.items()] + ["--use_ema", "--random_flip"]
    ours = str(HERE.parent / "train" / "finetune.py")
    found = {PLAIN: [str(HERE / "plain_training.py"), *script]}
    if parsed.peer_script:
        found[SCRIPT] = [str(parsed.peer_script), *script]
    found[OURS] = [ours, *our_settings(parsed, folder, "plain", kept=False)]
    found[KEPT] = [ours, *our_settings(parsed, folder, "kept", kept=True)]
    return found


def keep_latents(parsed: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Encode all pairs, mirrored ones too; returns seconds and bytes for a pair."""
    config = load_config(FinetuneConfig, None, our_settings(parsed, folder, "kept", kept=True))
    pairs = open_pairs(*config.datasets).train
    batches = Batches(pairs, load_backbone(config.base), size=SIDE, seed=0, flip=True)
    clock, busy = time.perf_counter(), time.process_time()
    batches.cache(Path(config.cache_folder), dtype=config.cache_dtype, ranks=Ranks(), say=lambda _: None)
    spent = {"clock": time.perf_counter() - clock, "busy": time.process_time() - busy}
    batches.close()
    return {name: seconds / len(pairs) for name, seconds in spent.items()} | {
        "bytes": batches.cached_bytes / len(pairs)
    }


def figures_of(ways: dict[str, Way], making: dict[str, float], batch: int) -> dict[str, Any]:
    """Return medians of all ways, and how many times as fast as the fastest peer ours are."""
    found: dict[str, Any] = {
        name: {
            "clock": statistics.median(way.clock), "busy": statistics.median(way.busy), "least busy": min(way.busy),
            "peak": way.peak, "steps": len(way.busy),
        }
        for name, way in ways.items()
    }  # fmt: skip
    peers = [name for name in (PLAIN, SCRIPT) if name in found]
    best = {key: min(found[name][key] for name in peers) for key in ("clock", "busy", "least busy")}
    for each in found.values():
        each["times as fast"] = {key: best[key] / each[key] for key in best}
    found["making"] = making | {
        f"{epochs} epochs": best["busy"] / (found[KEPT]["busy"] + batch * making["busy"] / epochs) for epochs in EPOCHS
    }
    return found


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table("training", "s a step", "CPU s a step", "times as fast", "by CPU", "by least CPU", "peak MB")
    for name, row in figures.items():
        if name != "making":
            ratios = [f"{row['times as fast'][key]:.2f}" for key in ("clock", "busy", "least busy")]
            table.add_row(name, f"{row['clock']:.2f}", f"{row['busy']:.2f}", *ratios, f"{row['peak'] / 1e6:.0f}")
    console.print(table)
    making = figures["making"]
    spread = ", ".join(f"{making[f'{epochs} epochs']:.2f} over {epochs} epochs" for epochs in EPOCHS)
    console.print(
        f"kept latents: {making['busy']:.2f} CPU s and {making['bytes'] / 1e3:.0f} kB a pair, once; with that, times "
        f"as fast: {spread}",
        highlight=False,
    )


def run(parsed: argparse.Namespace) -> None:
    """Run all programs in turns, print the table, and write the figures."""
    require_figures(parsed.out)
    console, ways = Console(width=120), dict[str, Way]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_base(folder / "base", parsed.fraction)
        write_pairs(folder / "pairs", parsed.pairs)
        making = keep_latents(parsed, folder)
        try:
            for name, command in commands(parsed, folder).items():
                ways[name] = Way.start(name, command, folder)
                console.print(f"{name} is warm", highlight=False)
            for turn in range(parsed.turns):
                for way in ways.values():
                    way.take_turn(parsed.steps)
                console.print(f"turn {turn + 1} of {parsed.turns}", highlight=False)
            figures = figures_of(ways, making, parsed.batch)
        finally:
            for way in ways.values():
                way.end()
    show(figures, console)
    about = {"threads": torch.get_num_threads(), "machine": platform.machine()}
    write_figures(parsed.out, about | figures, console)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer-script", type=Path, help="diffusers' train_instruct_pix2pix.py, to run besides its loop"
    )
    parser.add_argument("--fraction", type=int, default=4, choices=(1, 2, 4, 8), help="of SD 1.5's width (default: 4)")
    parser.add_argument("--batch", type=int, default=4, help="pairs in a step (default: 4)")
    parser.add_argument("--pairs", type=int, default=24, help="pairs of the data set, whole batches (default: 24)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="precision (default: fp32)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the script's DataLoader (default: 1)")
    parser.add_argument("--compile", action="store_true", help="compile our UNet")
    parser.add_argument("--turns", type=int, default=5, help="turns of each program (default: 5)")
    parser.add_argument("--steps", type=int, default=2, help="whole steps in a turn (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/train.json"), help="file of the figures")
    parsed = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the programs end too
    with quiet():
        return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())

"""Compare editing with diffusers on the same weights: `python bench/edit.py [--repeats 7] [--parts ...]`.

exactness: largest difference of the latents, for each scheduler and guidance scales. rows: UNet rows of one edit.
seconds: median time of one edit from PIL to PIL, interleaved, on the storybook editor and on a UNet with Stable
Diffusion 1.5's proportions and random weights. quality: presets on held-out scenes, measured by the judge.
"""

import argparse
import importlib.util
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from figures import require_figures, write_figures
from PIL import Image
from rich.console import Console
from rich.table import Table

from ip2p import Editor
from ip2p.diffusion.sampling import make_scheduler
from ip2p.errors import run_program
from ip2p.evaluation.draw import BATCH_SIZE
from ip2p.evaluation.measures import Measurer
from ip2p.evaluation.samples import Sample, storybook_samples
from ip2p.measuring.psnr import psnr
from ip2p.models.backbone import Backbone, save_backbone
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.models.loading import quiet
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.judge import Judge

PARTS = ("exactness", "rows", "seconds", "quality")
SCHEDULERS = ("euler_a", "ddim", "dpm", "unipc", "lcm")
SCALES = ((7.5, 1.5), (3.0, 1.0), (2.0, 2.0), (1.5, 4.0))
STEPS = 20
SEED = 7
Figures = dict[str, Any]


class EditorPair:
    """An editor of ip2p and the pipeline of diffusers with the same weights.

    Args:
        folder: folder or bundled name of the editor.
    """

    def __init__(self, folder: Path | str) -> None:
        self.ours = Editor.from_pretrained(str(folder))
        path = self.ours.backbone.path
        self.theirs = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(path, safety_checker=None)
        self.theirs.set_progress_bar_config(disable=True)
        self.theirs.unet.eval().requires_grad_(False)

    def edit_by_diffusers(
        self, image: Image.Image, text: str, scheduler: str, scales: tuple[float, float], **more: Any
    ) -> Any:
        """Edit a picture by the pipeline of diffusers; returns PIL pictures or latents, see its `output_type`."""
        self.theirs.scheduler = make_scheduler(self.ours.backbone.scheduler, scheduler)
        chosen = {"num_inference_steps": STEPS} | more
        return self.theirs(
            text, image, guidance_scale=scales[0], image_guidance_scale=scales[1],
            generator=torch.Generator().manual_seed(SEED), **chosen,
        ).images  # fmt: skip

    def edit_by_ip2p(
        self, image: Image.Image, text: str, scheduler: str, scales: tuple[float, float], **more: Any
    ) -> Any:
        """Edit a picture by ip2p's editor, with the same seed."""
        chosen: Any = {"steps": STEPS, "keep_unchanged": False, "guidance_stop": 1.0} | more  # as diffusers
        return self.ours.edit(
            image, text, seeds=SEED, scheduler=scheduler, text_scale=scales[0], image_scale=scales[1],
            **chosen,
        )[0]  # fmt: skip


def count_rows(unet: Any, make: Callable[[], Any]) -> int:
    """Count the UNet rows that a call of `make` computes."""
    found = []
    hook = unet.conv_in.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))
    try:
        make()
    finally:
        hook.remove()
    return sum(found)


def time_interleaved(
    peers: dict[str, Callable[[], Any]], repeats: int, seldom: Sequence[str] = ()
) -> dict[str, tuple[float, float]]:
    """Time functions by turns; returns the median and half the interquartile range in seconds, by name.

    Args:
        peers: functions to time, by name.
        repeats: timed calls of each, after one for warm-up.
        seldom: names of slow functions, which are called a third as often.
    """
    times: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(repeats + 1):
        for name, make in peers.items():
            if name in seldom and turn > max(1, repeats // 3):
                continue
            began = time.perf_counter()
            make()
            times[name].append(time.perf_counter() - began)
    kept = {name: each[1:] for name, each in times.items()}  # the first call of each warms up
    return {
        name: (statistics.median(each), (max(each) - min(each)) / 2 if len(each) < 4 else _quartiles(each))
        for name, each in kept.items()
    }


def _quartiles(values: Sequence[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def enable_deepcache(pair: EditorPair, interval: int) -> EditorPair:
    """Enable DeepCache on the pipeline of diffusers.

    Args:
        pair: pair whose pipeline is changed.
        interval: denoising steps between full evaluations of the UNet.
    """
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pair.theirs)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()
    return pair


def write_proportioned_editor(folder: Path, storybook: Backbone) -> Path:
    """Write an editor with Stable Diffusion 1.5's proportions, a fifth of its width, and random weights."""
    torch.manual_seed(SEED)
    unet = diffusers.UNet2DConditionModel(
        sample_size=32, in_channels=8, out_channels=4, block_out_channels=(64, 128, 256, 256), layers_per_block=2,
        attention_head_dim=8, cross_attention_dim=storybook.text_encoder.config.hidden_size,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128), layers_per_block=2, latent_channels=4, sample_size=256,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
    )
    parts = {"unet": unet, "vae": vae, "scheduler": scheduler}
    made = Backbone(
        tokenizer=storybook.tokenizer, text_encoder=storybook.text_encoder, name=str(folder), path=folder, **parts
    )
    save_backbone(made, folder, pipeline_class="StableDiffusionInstructPix2PixPipeline", dtype=torch.float32)
    return folder


def measure_exactness(pair: EditorPair, image: Image.Image, text: str, console: Console) -> Figures:
    """Compute the largest difference of the final latents, for each scheduler and guidance scales.

    For comparison, it also computes that of the pipeline from itself in another memory layout: the effect of rounding.
    """
    cases = [(scheduler, scales) for scheduler in SCHEDULERS for scales in SCALES]

    def theirs(form: torch.memory_format) -> list[torch.Tensor]:
        for network in (pair.theirs.unet, pair.theirs.vae):
            network.to(memory_format=form)
        return [pair.edit_by_diffusers(image, text, *case, output_type="latent") for case in cases]

    other, plain = theirs(torch.channels_last), theirs(torch.contiguous_format)
    ours, itself = {}, {}
    for case, latents, rounded in zip(cases, plain, other, strict=True):
        seen: list[torch.Tensor] = []
        pair.edit_by_ip2p(image, text, *case, on_step=lambda _, x, seen=seen: seen.append(x))
        ours[case] = float((seen[-1] - latents).abs().max())
        itself[case] = float((rounded - latents).abs().max())
    table = Table("scheduler", *(f"s_T {text_scale:g}, s_I {image_scale:g}" for text_scale, image_scale in SCALES))
    table.add_column("diffusers from itself")
    figures: Figures = {}
    for scheduler in SCHEDULERS:
        row = {str(scales): ours[scheduler, scales] for scales in SCALES}
        row["itself"] = max(itself[scheduler, scales] for scales in SCALES)
        figures[scheduler] = row
        table.add_row(scheduler, *(f"{each:.1e}" for each in row.values()))
    console.print(table)
    return figures


def count_edit_rows(pair: EditorPair, image: Image.Image, text: str, console: Console) -> Figures:
    """Count the UNet rows of one edit, at the first convolution."""
    table, figures = Table("scales and preset", "diffusers", "ip2p", "of three rows a step"), {}
    settings: list[tuple[tuple[float, float], dict[str, Any]]] = [
        ((7.5, 1.5), {}), ((7.5, 1.0), {}), ((1.5, 1.5), {}), ((1.0, 1.0), {}), ((7.5, 1.5), {"preset": "balanced"}),
        ((7.5, 1.5), {"preset": "fast", "steps": None}),
    ]  # fmt: skip
    for scales, more in settings:
        name = f"s_T {scales[0]:g}, s_I {scales[1]:g} {more.get('preset', '')}".strip()
        theirs = count_rows(
            pair.theirs.unet, lambda scales=scales: pair.edit_by_diffusers(image, text, "euler_a", scales)
        )
        scheduler = None if "steps" in more else "euler_a"
        ours = count_rows(
            pair.ours.backbone.unet,
            lambda scales=scales, more=more, scheduler=scheduler: pair.edit_by_ip2p(
                image, text, scheduler, scales, **more
            ),
        )
        figures[name] = {"diffusers": theirs, "ip2p": ours}
        table.add_row(name, str(theirs), str(ours), f"{ours / (3 * STEPS):.3f}")
    console.print(table)
    return figures


def measure_seconds(pair: EditorPair, image: Image.Image, text: str, repeats: int, console: Console) -> Figures:
    """Time whole edits: medians, and their ratio to the tuned pipeline."""
    tuned = EditorPair(pair.ours.backbone.path)
    tuned.theirs.unet.to(memory_format=torch.channels_last)
    tuned.theirs.vae.to(memory_format=torch.channels_last)
    general, no_image = (7.5, 1.5), (7.5, 1.0)
    peers: dict[str, Callable[[], Any]] = {
        "diffusers": lambda: pair.edit_by_diffusers(image, text, "euler_a", general),
        "diffusers, tuned": lambda: tuned.edit_by_diffusers(image, text, "euler_a", general),
        "diffusers, tuned, s_I 1": lambda: tuned.edit_by_diffusers(image, text, "euler_a", no_image),
        "ip2p exact": lambda: pair.edit_by_ip2p(image, text, "euler_a", general),
        "ip2p exact, s_I 1": lambda: pair.edit_by_ip2p(image, text, "euler_a", no_image),
        "ip2p balanced": lambda: pair.edit_by_ip2p(image, text, "euler_a", general, preset="balanced"),
        "ip2p fast": lambda: pair.edit_by_ip2p(image, text, None, general, preset="fast", steps=None),
        "ip2p paper": lambda: pair.edit_by_ip2p(image, text, None, general, preset="paper", steps=None),
        "ip2p exact, reuse 3": lambda: pair.edit_by_ip2p(image, text, "euler_a", general, reuse=3),
    }  # fmt: skip
    if importlib.util.find_spec("DeepCache"):
        cached = enable_deepcache(EditorPair(pair.ours.backbone.path), interval=3)
        peers["DeepCache 3"] = lambda: cached.edit_by_diffusers(image, text, "euler_a", general)
    medians = time_interleaved(peers, repeats, seldom=("ip2p paper",))
    table = Table("edit", "seconds", "against", "times as fast")
    against = {"ip2p exact, s_I 1": "diffusers, tuned, s_I 1", "ip2p fast": "ip2p paper", "ip2p balanced": "ip2p exact"}
    for name, (median, spread) in medians.items():
        peer = against.get(name, "diffusers, tuned")
        ratio = f"{medians[peer][0] / median:.2f}" if name != peer else ""
        table.add_row(name, f"{median:.3f} (+- {spread:.3f})", peer if ratio else "", ratio)
    console.print(table)
    return {name: {"median": median, "spread": spread} for name, (median, spread) in medians.items()}


def measure_quality(editor: Editor, samples: Sequence[Sample], console: Console) -> Figures:
    """Measure presets on held-out scenes: the judge's scores, and the PSNR to the pictures of `exact`."""
    measurer = Measurer(Judge.from_pretrained("storybook-judge"), None)
    batch = measurer.prepare(samples, [sample.load() for sample in samples])
    table = Table("preset", "rows", "success", "preservation", "success x preservation", "PSNR to exact")
    figures: Figures = {}
    exact: torch.Tensor | None = None
    for preset in ("exact", "balanced", "fast", "paper"):
        made = editor.edit(
            [each.source for each in batch.pictures], [sample.instruction for sample in samples],
            seeds=[sample.seed for sample in samples], batch=BATCH_SIZE, preset=preset,
            guidance_stop=1.0,  # as `exact` has it, so that the PSNR to it is that of the savings alone
        )  # fmt: skip
        scores = measurer.measure(batch, [each.image for each in made])
        x = to_tensor([each.image for each in made])
        exact = x if exact is None else exact
        means = [
            sum(row.figures[name] for row in scores) / len(scores) for name in ("success", "preservation", "product")
        ]
        near = float(psnr(x, exact).mean()) if preset == "balanced" else None
        count = sum(each.unet_rows for each in made) / len(made)
        figures[preset] = dict(zip(("success", "preservation", "product"), means, strict=True))
        figures[preset] |= {"rows": count, "psnr": near}
        table.add_row(preset, f"{count:.0f}", *(f"{mean:.1%}" for mean in means), f"{near:.1f} dB" if near else "")
    console.print(table)
    return figures


def run(parsed: argparse.Namespace) -> None:
    """Run the selected benchmarks, and write their figures."""
    require_figures(parsed.out)
    console, figures = Console(width=120), {}
    samples = storybook_samples(max(parsed.scenes, 1), SEED, stage="bench")
    image, text = samples[0].load().source, samples[0].instruction
    storybook = EditorPair(parsed.editor)
    if "exactness" in parsed.parts:
        figures["exactness"] = measure_exactness(storybook, image, text, console)
    if "rows" in parsed.parts:
        figures["rows"] = count_edit_rows(storybook, image, text, console)
    if "seconds" in parsed.parts:
        console.print(f"the storybook editor, {image.width} x {image.height}")
        figures["seconds"] = measure_seconds(storybook, image, text, parsed.repeats, console)
        with tempfile.TemporaryDirectory() as folder:
            large = EditorPair(write_proportioned_editor(Path(folder) / "model", storybook.ours.backbone))
            console.print("Stable Diffusion 1.5 at a fifth of its width, random weights, 256 x 256")
            picture = image.resize((256, 256))
            figures["seconds, proportioned"] = measure_seconds(
                large, picture, text, max(1, parsed.repeats // 2), console
            )
    if "quality" in parsed.parts:
        figures["quality"] = measure_quality(storybook.ours, samples, console)
    about = {
        "editor": str(parsed.editor), "scenes": parsed.scenes,
        "device": f"{storybook.ours.backbone.device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
    }  # fmt: skip
    write_figures(parsed.out, about | figures, console)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=7,
        help="repeats of each timed edit, half as many for the large model (default: 7)",
    )
    parser.add_argument("--scenes", type=int, default=48, help="held-out scenes for quality (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/edit.json"), help="file of the figures")
    parsed = parser.parse_args()
    with quiet():
        return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())

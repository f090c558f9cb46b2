"""The command evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ip2p.cli.help import Context, GroupedCommand
from ip2p.cli.lazy import make_app
from ip2p.cli.options import (
    BUNDLED_BASE,
    BUNDLED_EDITOR,
    AllowPickle,
    ModelConfig,
    Weights,
    refuse_unused,
    require_alone,
    say,
)

app = make_app()


class _EvaluateCommand(GroupedCommand):
    """The command, which refuses options that do nothing beside --compare."""

    def invoke(self, ctx: Any) -> Any:
        if ctx.params["compare"]:
            require_alone(ctx, "compare")
        return super().invoke(ctx)


@app.command(cls=_EvaluateCommand)
def evaluate(
    context: Context,
    model: Annotated[
        str, typer.Option(help="Bundled name, folder or hub id of an editor.", rich_help_panel="Model")
    ] = BUNDLED_EDITOR,
    base: Annotated[
        str, typer.Option(help="Text-to-image model that draws the baselines.", rich_help_panel="Model")
    ] = BUNDLED_BASE,
    config: ModelConfig = None,
    weights: Weights = None,
    allow_pickle: AllowPickle = False,
    scenes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Held-out storybook scenes, each with one edit, 200 if not given; of triplets, how many, spread over "
            "their tasks.",
            rich_help_panel="Data",
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Triplets in place of scenes: file, folder or hub data set, its test split if it has one. Also what "
            "the card of a model names, if nothing is given.",
            rich_help_panel="Data",
        ),
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="Sixty instructions as people type them.", rich_help_panel="Data")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the scenes and of all noise.", rich_help_panel="Data")
    ] = 2024,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods to measure, separated by commas: editor, bound (exact target through the autoencoder), copy, "
            "sdedit, p2p (Prompt-to-Prompt after inversion), text (text-to-image).",
            rich_help_panel="Methods",
        ),
    ] = "editor,bound,copy,sdedit,p2p,text",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Use the preset fast for the editor, and half as many samples for baselines and curves.",
            rich_help_panel="Methods",
        ),
    ] = False,
    keep_unchanged: Annotated[
        bool | None,
        typer.Option(
            help="Restore the pixels that the editor did not change; as its own settings say, if not given.",
            rich_help_panel="Methods",
        ),
    ] = None,
    baseline_samples: Annotated[
        int, typer.Option(min=1, help="Samples that baselines are drawn for.", rich_help_panel="Methods")
    ] = 100,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Trade-off curves over image scales and strengths.", rich_help_panel="Methods"),
    ] = False,
    curve_samples: Annotated[
        int, typer.Option(min=2, help="Samples of the curves.", rich_help_panel="Methods")
    ] = 100,
    clip: Annotated[
        str | None,
        typer.Option(
            help="CLIP that measures: bundled name, folder, hub id, or none. Storybook's own for its scenes, OpenAI's "
            "ViT-L/14 for other pictures.",
            rich_help_panel="Measures",
        ),
    ] = None,
    dino: Annotated[
        str | None,
        typer.Option(
            help="DINO for the measures of MagicBrush, Emu Edit and PIE-Bench: folder or hub id.",
            rich_help_panel="Measures",
        ),
    ] = None,
    original_range: Annotated[
        bool,
        typer.Option(
            "--original-range", help="Give CLIP pictures in [-1, 1], as the paper's code does by mistake.",
            rich_help_panel="Measures",
        ),
    ] = False,
    original_resize: Annotated[
        bool,
        typer.Option(
            "--original-resize", help="Resize for CLIP without antialiasing, as the paper's code.",
            rich_help_panel="Measures",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Vision model that is asked about every picture in both orders: openai:MODEL, with the key in "
            "OPENAI_API_KEY. Answers are kept in the folder.",
            rich_help_panel="Measures",
        ),
    ] = None,
    judge_url: Annotated[
        str, typer.Option(help="Address of its OpenAI-compatible server.", rich_help_panel="Measures")
    ] = "",
    judge_budget: Annotated[
        float, typer.Option(min=0, help="Most that it may cost in USD; 0 for no limit.", rich_help_panel="Measures")
    ] = 1.0,
    judge_prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="USD per million tokens that it reads and writes; the known price if not given.",
            rich_help_panel="Measures",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for evaluation.html and .json.", rich_help_panel="Output")
    ] = Path("runs/evaluation"),
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="Two evaluation.json on the same data: what differs beyond chance.", rich_help_panel="Output"
        ),
    ] = None,
) -> None:  # fmt: skip
    """Measure an editor beside baselines and bounds, or compare two evaluations.

    A run that was stopped resumes where it was.
    """
    if compare:
        from ip2p.evaluation.compare import compare_evaluations, comparison_table
        from ip2p.evaluation.report import read_report

        first, second = map(read_report, compare)
        print(comparison_table(compare_evaluations(first, second)))
        return
    from ip2p.evaluation.load import BASELINES, NONE, choose_data, evaluate_model
    from ip2p.evaluation.methods import Extent, require_groups

    groups = require_groups(methods.split(","))
    for used, why, names in (
        (bool(judge), "without --judge", ("judge_url", "judge_budget", "judge_prices")),
        (curve, "without --curve", ("curve_samples",)),
        (
            bool(BASELINES & set(groups)),
            f"without one of {', '.join(sorted(BASELINES))} in --methods",
            ("base", "baseline_samples"),
        ),
        (clip != NONE, f"with --clip {NONE}", ("original_range", "original_resize")),
    ):
        refuse_unused(context, used, why, *names)
    asked = None
    if judge:
        from ip2p.measuring.vision_judge import judge_server

        asked = judge_server(judge, url=judge_url, budget=judge_budget, prices=judge_prices)
    share = 2 if quick else 1
    extent = Extent(groups, quick, curve, -(-baseline_samples // share), -(-curve_samples // share))
    loading: dict[str, Any] = {"config": config, "weights": weights, "allow_pickle": allow_pickle}
    data = choose_data(model, pairs, scenes, seed, free=free, say=say)
    found = evaluate_model(
        model, base, data, seed=seed, out=output, extent=extent, clip_name=clip, dino_name=dino,
        original_range=original_range, original_resize=original_resize, keep_unchanged=keep_unchanged, asked=asked,
        say=say, **loading,
    )  # fmt: skip
    print(found)
    print(f"\nWrote {output}/evaluation.html and evaluation.json")

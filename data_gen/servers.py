"""The servers that the settings of a build name: of the writer of triples, and of the judge of pairs."""

from ip2p.data_gen.config import ScoresConfig, TriplesConfig
from ip2p.remote.server import ServerSettings


def writing_server(settings: TriplesConfig) -> ServerSettings:
    """Return the server that writes triples."""
    return ServerSettings(
        prefix="triples.", model=settings.model, base_url=settings.base_url, temperature=settings.temperature,
        parallel=settings.parallel, max_usd=settings.max_usd, max_tokens=settings.max_tokens,
        reply_tokens=settings.reply_tokens, max_reasoning_tokens=settings.max_reasoning_tokens,
        reasoning_effort=settings.reasoning_effort, cache=settings.cache, skip_unanswered=settings.skip_unanswered,
        price_in=settings.price_in, price_out=settings.price_out, extra_body=settings.extra_body,
        halved=settings.writer == "openai-batch",
    )  # fmt: skip


def judging_server(settings: ScoresConfig) -> ServerSettings:
    """Return the server that judges pairs; what it does not answer is asked again by the next run."""
    return ServerSettings(
        prefix="scores.judge_", model=settings.judge, base_url=settings.judge_base_url, temperature=0.0,
        parallel=settings.judge_parallel, max_usd=settings.judge_max_usd, max_tokens=settings.judge_max_tokens,
        reply_tokens=settings.judge_reply_tokens, max_reasoning_tokens=settings.judge_max_reasoning_tokens,
        reasoning_effort=settings.judge_reasoning_effort, cache=settings.judge_cache, skip_unanswered=True,
        price_in=settings.judge_price_in, price_out=settings.judge_price_out, extra_body=settings.judge_extra_body,
    )  # fmt: skip

"""Writers of triples, by their names in the settings."""

from collections.abc import Callable
from pathlib import Path

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.proposals import Writer


def open_writer(settings: TriplesConfig, folder: Path, *, seed: int, say: Callable[[str], None]) -> Writer:
    """The writer that the settings name.

    Args:
        settings: settings of the triples.
        folder: folder of the build, where a writer may keep the answers it got.
        seed: seed of the run.
        say: prints a line.

    Raises:
        ConfigError: it lacks a setting.
        ModelError: a local model is missing or of another kind.
        WriterError: a server refuses, or cannot be reached.
    """
    if settings.writer == "rules":
        from ip2p.data_gen.writers.rules.writer import RuleWriter

        return RuleWriter(seed)
    if settings.writer == "local":
        from ip2p.data_gen.writers.local.writer import LocalWriter

        return LocalWriter(settings, seed)
    if settings.writer == "openai-batch":
        from ip2p.data_gen.writers.api.batch_writer import BatchWriter

        return BatchWriter(settings, folder, seed=seed, say=say)
    from ip2p.data_gen.writers.api.writer import ApiWriter

    return ApiWriter(settings, folder, seed=seed, say=say)

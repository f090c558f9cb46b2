"""Writers of triples: rules, a language model behind an API, or a local one; or a file of finished ones."""

from collections.abc import Callable
from pathlib import Path

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.proposals import Writer


def open_writer(settings: TriplesConfig, folder: Path, *, seed: int, say: Callable[[str], None]) -> Writer:
    """Open the writer that the settings name.

    Args:
        settings: settings of the triples.
        folder: folder of the build, where a writer may store answers.
        seed: seed of the run.
        say: function that prints a line.

    Raises:
        ConfigError: a setting of the writer is missing.
        DataError: a file of triples is missing or not as it should be.
        ModelError: a local model is missing or of another kind.
        WriterError: a server refuses, or cannot be reached.
    """
    if settings.writer == "rules":
        from ip2p.data_gen.writers.rules.writer import RuleWriter

        return RuleWriter(seed)
    if settings.writer == "file":
        from ip2p.data_gen.writers.finished import FinishedWriter

        return FinishedWriter(Path(settings.file))
    if settings.writer == "local":
        from ip2p.data_gen.writers.local.writer import LocalWriter

        return LocalWriter(settings, seed)
    if settings.writer == "openai-batch":
        from ip2p.data_gen.writers.api.batch_writer import BatchWriter

        return BatchWriter(settings, folder, seed=seed, say=say)
    from ip2p.data_gen.writers.api.writer import ApiWriter

    return ApiWriter(settings, folder, seed=seed, say=say)

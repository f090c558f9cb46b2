"""An own domain: finished triples, own seeds and words for language models, chains, long forms, chat export."""

import json
from pathlib import Path

import pytest
from llm_server import Server
from PIL import Image
from typer.testing import CliRunner

from ip2p.cli import app
from ip2p.config import load_config
from ip2p.data_gen.config import DatasetConfig, TriplesConfig
from ip2p.data_gen.pairs.pack import packed_row
from ip2p.data_gen.pipeline import write_triples
from ip2p.data_gen.rows import to_png
from ip2p.data_gen.writers.chat import export_chat
from ip2p.data_gen.writers.prompts import SYSTEM, ask
from ip2p.errors import ConfigError, DataError
from ip2p.records import Candidate, Caption, Triple, content_id
from ip2p.shards import read_shards

ROOT = Path(__file__).parents[2]
AUTHORS = [
    {"input": "a red barn by a lake", "edit": "make it night", "output": "a red barn by a lake at night"},
    {"input": "a red barn by a lake", "edit": "paint the barn blue", "output": "a blue barn by a lake"},
    {"input": "a woman in a hat", "edit": "remove the hat", "output": "a woman in a hat and a scarf"},
    {"input": "a red barn by a lake at night", "edit": "add a moon", "output": "a red barn by a lake at night, a moon"},
]


def make_config(out: Path, *settings: str) -> DatasetConfig:
    """Make the config of a small build."""
    return load_config(DatasetConfig, None, [f"out={out}", "captions.count=12", *settings])


def triples_of(out: Path) -> list[Triple]:
    """Read the triples of a build."""
    return [Triple.model_validate(row) for row in read_shards(out / "triples")]


def run(config: DatasetConfig) -> list[Triple]:
    """Run the text stages, and return all triples."""
    write_triples(config, say=lambda line: None)
    return triples_of(Path(config.out))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A file in the layout of the authors."""
    path = tmp_path / "finished.jsonl"
    path.write_text("\n".join(map(json.dumps, AUTHORS)))
    return path


def test_finished_triples_are_checked_like_any_others(tmp_path: Path, finished: Path) -> None:
    triples = run(make_config(tmp_path / "out", "triples.writer=file", f"triples.file={finished}"))
    assert [each.status for each in triples] == ["ok", "ok", "refused", "ok"]
    assert [each.kind for each in triples] == ["time", "color", "remove", "add"]
    assert {each.writer for each in triples} == {"finished.jsonl"}
    assert [each.caption for each in triples] == [row["input"] for row in AUTHORS]


def test_finished_triples_may_be_chains(tmp_path: Path, finished: Path) -> None:
    triples = run(make_config(tmp_path / "out", "triples.writer=file", f"triples.file={finished}", "triples.turns=2"))
    first, second = triples[:2]
    assert (second.caption, second.instruction, second.turn) == (first.edited_caption, "add a moon", 2)
    assert first.chain == second.chain == first.id and second.caption_id == first.caption_id


@pytest.mark.parametrize("settings", [["triples.writer=file"], ["triples.file=a.jsonl"]])
def test_a_file_and_its_writer_belong_together(tmp_path: Path, settings: list[str]) -> None:
    with pytest.raises(ConfigError, match="triples.file"):
        make_config(tmp_path, *settings)


def test_a_changed_file_is_another_build(tmp_path: Path, finished: Path) -> None:
    config = make_config(tmp_path / "out", "triples.writer=file", f"triples.file={finished}")
    run(config)
    finished.write_text(json.dumps(AUTHORS[0]))
    with pytest.raises(ConfigError, match="triples.file"):
        run(config)


@pytest.mark.parametrize("source", ["storybook", str(ROOT / "examples" / "captions.txt")])
def test_each_row_of_a_chain_edits_the_last_edited_caption(tmp_path: Path, source: str) -> None:
    triples = run(make_config(tmp_path / "out", "triples.turns=3", f"captions.source={source}"))
    chains: dict[str, list[Triple]] = {}
    for each in triples:
        chains.setdefault(each.chain, []).append(each)
    kept = [[each for each in chain if each.status == "ok"] for chain in chains.values()]
    assert sum(len(chain) == 3 for chain in kept) >= 6
    for name, chain in zip(chains, kept, strict=True):
        assert [each.turn for each in chain] == list(range(1, len(chain) + 1))
        assert all(each.chain == name == chain[0].id and each.caption_id == chain[0].caption_id for each in chain)
        texts = [chain[0].caption, *(each.edited_caption for each in chain)] if chain else []
        assert [each.caption for each in chain] == texts[:-1] and len(set(texts)) == len(texts)


def test_chains_resume_to_the_same_rows(tmp_path: Path) -> None:
    settings = ["triples.turns=3", "triples.inverse=true", "triples.long_form=true", "shard_size=4"]
    whole = run(make_config(tmp_path / "one", *settings))
    config = make_config(tmp_path / "two", *settings)
    assert run(config) == whole
    for path in (tmp_path / "two" / "triples").glob("shard-00001.*"):
        path.unlink()
    assert run(config) == whole


def test_builds_without_chains_have_the_columns_of_before(tmp_path: Path) -> None:
    run(make_config(tmp_path / "out"))
    (row, *_) = read_shards(tmp_path / "out" / "triples")
    assert not row.keys() & {"chain", "turn", "long_instruction"}


def test_storybook_edits_have_inverses(tmp_path: Path) -> None:
    triples = run(make_config(tmp_path / "out", "triples.inverse=true"))
    pairs = [
        (one, other) for one in triples for other in triples if one.caption == other.edited_caption and one != other
    ]
    assert any(one.edited_caption == other.caption for one, other in pairs)
    kept = [each for each in triples if each.status == "ok"]
    assert len(kept) >= 20


def test_the_long_form_says_what_stays_and_pairs_have_the_one_or_the_other(tmp_path: Path) -> None:
    triples = run(make_config(tmp_path / "out", "triples.long_form=true"))
    kept = [each for each in triples if each.status == "ok"]
    assert all(len(each.long_instruction) > len(each.instruction) for each in kept)
    assert all(each.edited_caption.rstrip(".") in each.long_instruction for each in kept)
    triple = kept[0].model_copy(update={"chain": "c", "turn": 2})
    pictures = {name: to_png(Image.new("RGB", (8, 8), name)) for name in ("red", "blue")}
    pictures = {"original_image": pictures["red"], "edited_image": pictures["blue"]}
    rows = [
        packed_row(Candidate(id=content_id(str(number)), triple_id=triple.id, seed=0, p=0, cfg=1, steps=1), triple,
                   pictures, {"model": "x"})
        for number in range(40)
    ]  # fmt: skip
    assert {row["edit_prompt"] for row in rows} == {triple.instruction, triple.long_instruction}
    assert 8 <= sum(row["edit_prompt"] == triple.instruction for row in rows) <= 32
    assert json.loads(rows[0]["provenance"]) == {
        "model": "x", "writer": triple.writer, "chain": "c", "turn": 2,
    }  # fmt: skip


@pytest.fixture
def own(tmp_path: Path) -> TriplesConfig:
    """Settings with own seeds and an own word for language models."""
    seeds, system = tmp_path / "seeds.jsonl", tmp_path / "system.txt"
    rows = [
        {"caption": f"x-ray {n}", "instruction": f"invert {n}", "edited_caption": f"bright x-ray {n}"} for n in range(3)
    ]
    seeds.write_text("\n".join(map(json.dumps, rows)))
    system.write_text("You edit x-rays.\n")
    return TriplesConfig(seeds=str(seeds), system=str(system), shots=2)


def test_a_language_model_is_asked_in_the_words_of_the_domain(own: TriplesConfig) -> None:
    caption = Caption(id="1", text="an x-ray of a hand", source="")
    system, *turns = ask(caption, 2, own, seed=0)
    assert system["content"].startswith("You edit x-rays.\nThe user gives a JSON object")
    assert len(turns) == 5 and all("x-ray" in turn["content"] for turn in turns)
    assert ask(caption, 2, TriplesConfig(), seed=0)[0]["content"] == SYSTEM
    both = ask(caption, 1, own.model_copy(update={"long_form": True, "inverse": True}), seed=0)
    assert "long_instruction" in both[0]["content"] and "inverse" in both[0]["content"]
    assert len(both) == 2  # none of these seeds has an inverse


@pytest.mark.parametrize("name", ["seeds", "system"])
@pytest.mark.parametrize("text", [None, " \n"])
def test_broken_files_of_a_domain_are_errors(tmp_path: Path, name: str, text: str | None) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=str(path)):
        ask(Caption(id="1", text="a", source=""), 1, TriplesConfig.model_validate({name: str(path)}), seed=0)


def test_a_server_writes_chains_in_the_words_of_the_domain(tmp_path: Path, server: Server, own: TriplesConfig) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red car on a street\na dog in a field\n")
    config = make_config(
        tmp_path / "out", "triples.writer=openai", f"triples.base_url={server.url}", "triples.model=any",
        f"captions.source={captions}", f"triples.seeds={own.seeds}", f"triples.system={own.system}", "triples.turns=3",
    )  # fmt: skip
    triples = run(config)
    assert {each.turn for each in triples} == {1, 2, 3}
    asked = (tmp_path / "out" / "asked.jsonl").read_text()
    assert asked and run(config) == triples and (tmp_path / "out" / "asked.jsonl").read_text() == asked


def test_seeds_and_triples_become_conversations(tmp_path: Path, own: TriplesConfig, finished: Path) -> None:
    out = tmp_path / "own.jsonl"
    assert export_chat("", out, own) == 3
    first = json.loads(out.read_text().splitlines()[0])["messages"]
    assert [turn["role"] for turn in first] == ["system", "user", "assistant"]
    assert first[0]["content"].startswith("You edit x-rays.") and json.loads(first[2]["content"])["edits"]
    out = tmp_path / "two_edits.jsonl"
    assert export_chat(str(finished), out, TriplesConfig()) == 3  # two edits of one caption are one answer
    question, answer = (
        json.loads(turn["content"]) for turn in json.loads(out.read_text().splitlines()[0])["messages"][1:]
    )
    assert question == {"caption": "a red barn by a lake", "count": 2} and len(answer["edits"]) == 2
    run(make_config(tmp_path / "build"))
    assert export_chat(str(tmp_path / "build"), tmp_path / "built.jsonl", TriplesConfig(inverse=True)) >= 8
    out = tmp_path / "inverse.jsonl"
    assert export_chat("", out, TriplesConfig(inverse=True)) == 168
    assert any("inverse" in line for line in out.read_text().splitlines())


def test_commands(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, out = CliRunner(), tmp_path / "chat.jsonl"
    monkeypatch.chdir(tmp_path)
    done = runner.invoke(app, ["dataset", "triples", "--finished", str(finished), "-o", "out"])
    assert done.exit_code == 0 and len(triples_of(tmp_path / "out")) == 4, done.output
    assert runner.invoke(app, ["dataset", "chat", "out", "-o", str(out)]).exit_code == 0 and out.is_file()
    assert isinstance(runner.invoke(app, ["dataset", "chat", "-o", str(out)]).exception, DataError), "another file"
    out = tmp_path / "seeds.jsonl"
    assert runner.invoke(app, ["dataset", "chat", "triples.inverse=true", "-o", str(out)]).exit_code == 0
    assert len(out.read_text().splitlines()) == 168

import pytest

from unmask import cli
from unmask.data.lookright import causal_ceiling, generate
from unmask.data.sentence import Corpus
from unmask.results.ledger import Ledger
from unmask.results.run import RunResult
from unmask.sweep.outputs import causal_ceiling_of, remember_corpus, write_outputs

TEXTS = ["report.html", "report.md", "report.tex", "configurations.csv", "runs.csv"]


@pytest.fixture
def finished(settings, tmp_path):
    """`finished(task, corpus)`: a folder with the ledger of two scored runs, made up."""

    def make(corpus: Corpus, ledger: Ledger | None = None) -> Ledger:
        from unmask.sweep.plan import decoder_runs

        ledger = ledger or Ledger(tmp_path / "ledger.jsonl")
        chosen = settings(task=corpus.name, out=tmp_path)
        for number, run in enumerate(decoder_runs(chosen, "tiny", 8, corpus.fingerprint())):
            counts = {"f1": 0.5 + number / 10, "precision": 0.5, "recall": 0.5}
            ledger.append_run(RunResult(run, {"validation": {**counts, "per_label": {}}}))
        remember_corpus(corpus, chosen)
        return ledger

    return make


def corpus_named(name: str, note: str) -> Corpus:
    generated = generate()
    few = generated.validation[:10]
    return Corpus(name, few, few, few, generated.labels, notes=(note,))


def test_page_has_the_notes_of_the_corpus_and_the_ceiling(finished, tmp_path):
    corpus = corpus_named("lookright", "seen through a glass")
    names = [path.name for path in write_outputs(finished(corpus), tmp_path)]
    assert names == [*TEXTS, "figure.png"]
    page = (tmp_path / "report.html").read_text()
    assert "seen through a glass" in page
    assert f"{causal_ceiling(corpus.validation):.3f}" in page


def test_report_made_again_is_the_same_page(finished, tmp_path, capsys):
    write_outputs(finished(corpus_named("lookright", "a note")), tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    cli.main(["report", str(tmp_path)])
    assert (tmp_path / "report.html").read_bytes() == first
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_two_tasks_in_one_folder_get_a_figure_each_and_keep_their_notes(finished, tmp_path):
    ledger = finished(corpus_named("lookright", "first note"))
    finished(corpus_named("other", "second note"), ledger)
    names = {path.name for path in write_outputs(ledger, tmp_path)}
    assert names == {*TEXTS, "figure-1.png", "figure-2.png"}
    page = (tmp_path / "report.html").read_text()
    assert "first note" in page
    assert "second note" in page


def test_notes_of_a_corpus_without_results_stay_out(finished, settings, tmp_path):
    ledger = finished(corpus_named("small", "used"))
    unused = corpus_named("unused", "never trained on").limit("train", 3)
    remember_corpus(unused, settings(task="unused", out=tmp_path))
    write_outputs(ledger, tmp_path)
    assert "never trained on" not in (tmp_path / "report.html").read_text()


def test_ledger_without_results_gives_a_page_that_says_so(tmp_path):
    names = [path.name for path in write_outputs(Ledger(tmp_path / "ledger.jsonl"), tmp_path)]
    assert names == TEXTS
    assert "There are no results yet." in (tmp_path / "report.md").read_text()


def test_only_the_generated_corpus_has_a_known_ceiling():
    assert causal_ceiling_of(generate()) == pytest.approx(2 / 3)
    assert causal_ceiling_of(corpus_named("other", "")) is None


def test_damaged_memory_of_corpora_is_named(tmp_path):
    (tmp_path / "corpora.json").write_text("{")
    with pytest.raises(ValueError, match=r"corpora\.json is damaged .*; delete it"):
        write_outputs(Ledger(tmp_path / "ledger.jsonl"), tmp_path)


def test_a_part_of_the_report_goes_to_a_folder_of_its_own(finished, tmp_path, capsys):
    ledger = finished(corpus_named("lookright", "first note"))
    finished(corpus_named("other", "second note"), ledger)
    cli.main(["report", str(tmp_path), "--only", "other, tiny"])
    folder = tmp_path / "only-other--tiny"
    printed = capsys.readouterr().out
    assert str(folder / "report.html") in printed
    assert "other, tiny" in printed
    assert "lookright" not in printed
    assert {path.name for path in folder.iterdir()} == {*TEXTS, "figure.png"}
    page = (folder / "report.html").read_text()
    assert "second note" in page
    assert "first note" not in page
    assert not (tmp_path / "report.html").exists()


def test_a_part_that_is_not_there_is_refused_with_what_is(finished, tmp_path):
    ledger = finished(corpus_named("lookright", ""))
    with pytest.raises(
        ValueError, match="no title has 'chunks' in it; there are 'lookright, tiny'"
    ):
        write_outputs(ledger, tmp_path, only="chunks")


def test_settings_of_the_sweep_and_sizes_of_the_corpus_are_in_the_page(finished, tmp_path):
    write_outputs(finished(corpus_named("lookright", "")), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert '<th scope="row">train sentences</th><td>10</td>' in page
    assert '<th scope="row">checkpoint seconds</th><td>60.0</td>' in page
    assert '<th scope="row">configs</th><td>0000, 0110</td>' in page

import json

import numpy as np
import pytest

from unmask.scale.text import (
    TokenFile,
    lines,
    load_tokenizer,
    text_files,
    train_tokenizer,
    write_tokens,
)


def test_all_text_files_of_all_depths_are_found_in_order(text_folder):
    assert [path.name for path in text_files(text_folder)] == ["a.txt", "b.txt"]
    assert len(list(lines(text_folder))) == 300


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.txt file in .*--text"):
        text_files(tmp_path)


def test_text_that_is_not_utf8_is_named_by_file_and_line(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"x\.txt, line 2: not UTF-8"):
        list(lines(tmp_path))


def test_tokens_on_disk_are_those_of_each_line_end_to_end(text_folder, tokenizer, tokens):
    expected = [i for line in lines(text_folder) for i in tokenizer(line)["input_ids"]]
    assert tokens.num_tokens == len(expected)
    assert tokens.num_lines == 300
    assert np.fromfile(tokens.path, dtype=tokens.dtype).tolist() == expected
    assert tokens.chunks(24).flatten().tolist() == expected[: len(expected) // 24 * 24]


def test_every_line_is_wrapped_and_reads_back(text_folder, tokenizer):
    line = next(lines(text_folder))
    ids = tokenizer(line)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids[1:-1]).strip() == line


def test_any_text_can_be_encoded(tokenizer):
    text = "Größe 東京 🙂"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids[1:-1]).strip() == text


def test_a_vocabulary_below_all_bytes_is_refused(text_folder):
    with pytest.raises(ValueError, match="--vocab-size must be at least 261"):
        train_tokenizer(text_folder, 260)


def test_a_finished_file_is_not_written_again(text_folder, tokenizer, tmp_path):
    first = write_tokens(text_folder, tokenizer, tmp_path)
    before = first.path.stat().st_mtime_ns
    assert write_tokens(text_folder, tokenizer, tmp_path) == first
    assert first.path.stat().st_mtime_ns == before


def test_a_file_that_a_kill_left_without_description_is_written_anew(
    text_folder, tokenizer, tmp_path
):
    whole = write_tokens(text_folder, tokenizer, tmp_path)
    (tmp_path / "tokens.json").unlink()
    (tmp_path / "tokens.bin").write_bytes(b"half")
    assert TokenFile.open(tmp_path) is None
    assert write_tokens(text_folder, tokenizer, tmp_path) == whole
    assert whole.path.stat().st_size == 2 * whole.num_tokens


def test_other_text_in_the_same_place_is_refused(tokenizer, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("one two\n")
    write_tokens(text, tokenizer, tmp_path / "out")
    (text / "a.txt").write_text("one two three\n")
    with pytest.raises(ValueError, match=r"holds other files than those .* choose another --out"):
        write_tokens(text, tokenizer, tmp_path / "out")


def test_too_little_text_for_one_chunk_is_refused(tokens):
    with pytest.raises(ValueError, match="fewer than one chunk of 1000000"):
        tokens.chunks(1_000_000)


def test_a_tokenizer_comes_back_from_its_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "we shook hands with Mira"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.mask_token_id == tokenizer.mask_token_id


def test_a_tokenizer_without_mask_token_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text())
    del values["mask_token"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="has no mask token"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")

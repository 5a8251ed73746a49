import errno
import os
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from unmask.errors import OneLineParser, exit_code, in_one_line, is_out_of_memory, one_line_errors


def ending(error: BaseException, capsys, **options) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended, one_line_errors("unmask x", **options):
        raise error
    return ended.value.code, capsys.readouterr().err


def test_nothing_happens_without_an_error(capsys):
    with one_line_errors("unmask x"):
        pass
    assert capsys.readouterr() == ("", "")


def test_wrong_input_is_one_line_and_exit_code_2(capsys):
    assert ending(ValueError("a.txt:3: no tag;\n  mend it"), capsys) == (
        2,
        "unmask x: error: a.txt:3: no tag; mend it\n",
    )


def test_failure_on_the_way_is_exit_code_1(capsys):
    code, line = ending(RuntimeError("the mask is not what the configuration says"), capsys)
    assert (code, line) == (1, "unmask x: error: the mask is not what the configuration says\n")


def test_interrupt_is_exit_code_130_and_says_that_a_sweep_goes_on(capsys):
    assert ending(KeyboardInterrupt(), capsys) == (130, "unmask x: interrupted\n")
    assert ending(KeyboardInterrupt(), capsys, resumes=True) == (
        130,
        "unmask x: interrupted; the same command goes on where it was\n",
    )


def test_debug_lets_the_exception_through():
    with pytest.raises(ZeroDivisionError), one_line_errors("unmask x", debug=True):
        _ = 1 / 0


def test_exception_that_says_nothing_is_named_with_where_to_look(capsys):
    assert ending(KeyError("q"), capsys) == (
        1,
        "unmask x: error: KeyError: 'q' (--debug shows where)\n",
    )
    assert in_one_line(ValueError()) == "ValueError: no details (--debug shows where)"


def test_exit_code_that_a_command_chose_is_kept():
    with pytest.raises(SystemExit) as ended, one_line_errors("unmask x"):
        raise SystemExit(1)
    assert ended.value.code == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, 2),
        (errno.EACCES, 2),
        (errno.EEXIST, 2),
        (errno.EISDIR, 2),
        (errno.ENOTDIR, 2),
        (errno.EIO, 1),
    ],
)
def test_system_error_names_the_file_and_whose_fault_it_is(number, code):
    error = OSError(number, os.strerror(number), "some/file")
    assert in_one_line(error) == f"some/file: {os.strerror(number)}"
    assert exit_code(error) == code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_says_where_and_what_to_do(number):
    error = OSError(number, os.strerror(number), "out/ledger.jsonl")
    assert in_one_line(error) == (
        "the disk is full or the file too large (out/ledger.jsonl); make room, repeat the command"
    )
    assert exit_code(error) == 1


def test_full_disk_in_safetensors_words_is_a_full_disk():
    error = SafetensorError("I/O error: No space left on device (os error 28)")
    assert in_one_line(error).startswith("the disk is full")
    assert exit_code(error) == 1
    assert "SafetensorError" in in_one_line(SafetensorError("invalid header"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_full_disk_in_the_words_of_tokenizers_is_a_full_disk():
    with pytest.raises(Exception, match="os error 28") as refused:
        Tokenizer(WordLevel({"a": 0}, unk_token="a")).save("/dev/full")
    assert in_one_line(refused.value).startswith("the disk is full")
    assert exit_code(refused.value) == 1


def real_torch_refusal() -> RuntimeError:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(10**15)
    return refused.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        real_torch_refusal(),
    ],
)
def test_out_of_memory_is_recognised_and_says_what_to_do(error):
    assert is_out_of_memory(error)
    assert exit_code(error) == 1
    assert in_one_line(error) == (
        "out of memory: make the batch smaller (--batch-size, with --accumulation to keep the "
        "step), fuse fewer runs (--fuse 1), or add --gradient-checkpointing"
    )


def test_other_errors_are_not_out_of_memory():
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_reader_that_went_away_ends_the_command_without_a_word():
    code = """
from unmask.errors import one_line_errors
with one_line_errors("unmask x"):
    while True:
        print("a line", flush=True)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 1


def test_parser_says_what_is_wrong_in_one_line(capsys):
    parser = OneLineParser(prog="unmask x")
    parser.add_argument("--split", choices=("train", "test"))
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--split", "dev"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unmask x: error: argument --split: invalid choice: 'dev'")
    assert lines[0].endswith("; see unmask x --help")

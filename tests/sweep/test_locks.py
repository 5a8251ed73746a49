"""A claim lasts as long as its owner and no longer."""

import os
import signal
import subprocess
import sys
import threading
import time

from unmask.sweep.locks import Claim, is_claimed

HOLD = """
import sys, time
from pathlib import Path
from unmask.sweep.locks import Claim
claim = Claim(Path(sys.argv[1]))
print(claim.take(), flush=True)
time.sleep(60)
"""


def test_claim_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "one.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "True\n"
        assert is_claimed(path)
        assert not Claim(path).take()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert path.exists()
    assert not is_claimed(path)
    claim = Claim(path)
    assert claim.take()
    claim.release()


def test_nothing_claims_a_file_that_is_not_there(tmp_path):
    assert not is_claimed(tmp_path / "none.lock")


def test_asking_does_not_take_the_claim(tmp_path):
    with Claim(tmp_path / "one.lock") as claim:
        assert is_claimed(claim.path)
        assert is_claimed(claim.path)
    assert not is_claimed(claim.path)


def test_a_released_claim_leaves_no_file(tmp_path):
    with Claim(tmp_path / "one.lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_wait_one_at_a_time_goes_in(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with Claim(tmp_path / "one.lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1

"""Files are whole or absent; what a killed process leaves is removed, what a live one writes is not."""

import signal
import subprocess
import sys
import threading

import pytest

from allora_lab.files import require_writable, written_whole
from allora_lab.locks import claimed

WRITES = """
import sys, time
from pathlib import Path
from allora_lab.files import written_whole
with written_whole(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""
CLAIMS = """
import sys, time
from pathlib import Path
from allora_lab.locks import claimed
with claimed(Path(sys.argv[1])) as is_mine:
    print(is_mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start():
    """Start a program that holds a file until it is killed; all are killed at the end."""
    started = []

    def go(program, path):
        words = [sys.executable, "-c", program, str(path)]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        started[-1].said = started[-1].stdout.readline().strip()
        return started[-1]

    yield go
    for process in started:
        kill(process)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_temporary_file_of_a_killed_process_is_removed_at_the_next_start(tmp_path, start):
    process = start(WRITES, tmp_path / "a.json")
    kill(process)
    assert len(names(tmp_path)) == 1
    require_writable(tmp_path)
    assert names(tmp_path) == []


def test_a_temporary_file_that_a_live_process_writes_stays(tmp_path, start):
    start(WRITES, tmp_path / "a.json")
    before = names(tmp_path)
    require_writable(tmp_path)
    assert names(tmp_path) == before != []


def test_hidden_files_of_the_user_stay(tmp_path):
    mine = (".probe", ".a.json.abcdefgh", ".settings")
    for name in mine:
        (tmp_path / name).write_text("mine")
    require_writable(tmp_path)
    assert names(tmp_path) == sorted(mine)


def test_two_that_try_one_folder_at_once_are_both_told_that_it_can_be_written(tmp_path):
    refused = []

    def try_often():
        for _ in range(300):
            try:
                require_writable(tmp_path)
            except OSError as error:
                refused.append(error)

    threads = [threading.Thread(target=try_often) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert names(tmp_path) == []


def test_files_written_while_another_process_cleans_up_arrive_whole(tmp_path):
    done = threading.Event()

    def clean():
        while not done.is_set():
            require_writable(tmp_path)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for i in range(300):
            with written_whole(tmp_path / f"{i}.json") as partial:
                partial.write_text(str(i))
    finally:
        done.set()
        cleaner.join()
    assert sorted(int(p.read_text()) for p in tmp_path.glob("*.json")) == [*range(300)]


def test_work_that_a_live_process_claimed_is_not_claimed_twice(tmp_path, start):
    process = start(CLAIMS, tmp_path / "run")
    assert process.said == "True"
    with claimed(tmp_path / "run") as is_mine:
        assert not is_mine
    kill(process)
    with claimed(tmp_path / "run") as is_mine:
        assert is_mine
    assert names(tmp_path) == []


def test_a_name_of_many_long_letters_can_be_written(tmp_path):
    path = tmp_path / ("語" * 80 + ".json")
    with written_whole(path) as partial:
        partial.write_text("x")
    assert path.read_text() == "x"

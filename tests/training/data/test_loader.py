from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import fields
from multiprocessing import forkserver

import pytest
import torch

from tests.training.data.building import CLIP, write_captions, write_world
from training.config.sections import Config
from training.data import loader
from training.data.batch import IGNORED, NO_WORD
from training.data.loader import eval_loader, train_loader
from training.data.rows import prepare_rows
from training.data.tokens import WordTokenizer
from training.errors import DataError

ROWS = 22


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer(CLIP)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    write_captions(out, write_world(out, ROWS)[:9])
    return prepare_rows(out, ["train"], out / "rows")


def config(workers=0, accumulate=1):
    return Config.model_validate(
        {
            "data": {"workers": workers, "prefetch": 1, "max_words": 8},
            "model": {"image_size": 16},
            "train": {"batch_size": 8, "accumulate": accumulate, "eval_batch_size": 8},
        }
    )


def samples(batches):
    """Return every row's tensors by index; texts without padding, for its amount follows from the batch."""
    padding = {"text": 0, "text_word": NO_WORD, "word_labels": IGNORED, "caption": 0, "explanation": 0}
    found = {}
    for batch in batches:
        for n, index in enumerate(batch.index.tolist()):
            assert index not in found
            values = {field.name: getattr(batch, field.name)[n] for field in fields(batch)}
            for name, fill in padding.items():
                values[name] = values[name][values[name] != fill]
            found[index] = values
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for index, values in found.items():
        for name, value in values.items():
            assert torch.equal(value, expected[index][name]), (index, name)


@pytest.fixture(scope="module")
def reference(rows, tokenizer):
    epoch = train_loader(rows, tokenizer, config(), epoch=1)
    found = samples(epoch)
    assert len(found) == ROWS and epoch.batches.steps == len(epoch) == 3
    return found


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_and_ranks_change_no_bit_of_any_sample(rows, tokenizer, reference, workers, world):
    batches = [
        batch
        for rank in range(world)
        for batch in train_loader(
            rows, tokenizer, config(workers, accumulate=2), epoch=1, world=world, rank=rank
        )
    ]
    assert_same(samples(batches), reference)


def test_starting_at_a_step_equals_skipping_and_reads_nothing_before_it(rows, tokenizer):
    options = config(accumulate=2)
    full = list(train_loader(rows, tokenizer, options, epoch=0))
    rest = train_loader(rows, tokenizer, options, epoch=0, start=2)
    late = list(rest)
    assert [b.index.tolist() for b in late] == [b.index.tolist() for b in full[4:]]
    assert_same(samples(late), samples(full[4:]))
    read = sum(len(b.words) for b in late)
    assert rest.dataset.counts()["words_dropped"] == read  # texts of nine words, eight are read


def test_counts_of_workers_reach_the_main_process(rows, tokenizer):
    evaluation = eval_loader(rows, tokenizer, config(workers=2))
    assert sum(len(batch) for batch in evaluation) == ROWS
    assert evaluation.dataset.counts()["words_dropped"] == ROWS


def test_evaluation_covers_every_row_once_over_ranks(rows, tokenizer):
    parts = [list(eval_loader(rows, tokenizer, config(), world=3, rank=rank)) for rank in range(3)]
    assert [i for part in parts for batch in part for i in batch.index.tolist()] == list(range(ROWS))


def test_an_epoch_after_new_texts_sees_them(tmp_path, tokenizer):
    samples = write_world(tmp_path, 8)
    first = prepare_rows(tmp_path, ["train"], tmp_path / "rows")
    assert not any(b.caption_mask.any() for b in train_loader(first, tokenizer, config(), epoch=0))
    write_captions(tmp_path, samples)
    second = prepare_rows(tmp_path, ["train"], tmp_path / "rows")
    assert all(b.caption_mask.all() for b in train_loader(second, tokenizer, config(), epoch=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_clear_sentence_also_from_a_worker(tmp_path, tokenizer, workers):
    write_world(tmp_path, 8)
    (tmp_path / "images" / "3.jpg").write_bytes(b"")
    rows = prepare_rows(tmp_path, ["train"], tmp_path / "rows")
    with pytest.raises(DataError, match=r"^\S+3\.jpg: the image of sample") as caught:
        list(train_loader(rows, tokenizer, config(workers), epoch=0))
    assert "\n" not in str(caught.value)


def test_signals_to_workers_and_their_server_end_none_of_them(rows, tokenizer):
    # One that another test has started does not hold the trainer's signals back.
    forkserver._forkserver._stop()
    batches = iter(train_loader(rows, tokenizer, config(workers=2, accumulate=4), epoch=0))
    read = len(next(batches))
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for pid in [worker.pid for worker in workers] + [forkserver._forkserver._forkserver_pid]:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGUSR1)
    assert read + sum(len(batch) for batch in batches) == ROWS
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("end", ["closed", "at exit"])
def test_an_epoch_given_up_leaves_no_worker(rows, tokenizer, end):
    batches = iter(train_loader(rows, tokenizer, config(workers=2), epoch=0))
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    if end == "closed":
        batches.close()
    else:
        loader._end_all_workers()
    for worker in workers:
        worker.join(5)
    assert not any(worker.is_alive() for worker in workers)


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from training.config.sections import Config
from training.data.loader import train_loader
from training.data.rows import prepare_rows
from training.data.tokens import WordTokenizer

if __name__ == "__main__":
    out = Path(sys.argv[1])
    rows = prepare_rows(out, ["train"], out / "rows")
    settings = {"data": {"workers": 2}, "model": {"image_size": 16}, "train": {"batch_size": 2}}
    batches = iter(train_loader(rows, WordTokenizer(sys.argv[2]), Config.model_validate(settings), epoch=0))
    next(batches)
    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_when_the_trainer_is_killed(tmp_path, root):
    write_world(tmp_path, ROWS)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(root)}
    # This returns only when every process that shares the output has ended; a worker left over is a timeout.
    done = subprocess.run(
        [sys.executable, script, tmp_path, CLIP], cwd=root, env=environment, capture_output=True, timeout=300
    )
    assert len(done.stdout.split()) == 2 and done.returncode == -signal.SIGKILL

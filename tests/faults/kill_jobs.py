"""A process that has imported the tool and forks a child for each command line, to be killed with SIGKILL.

It reads a job a line from standard input, ``{"arguments", "folder", "environment", "log", "after", "event"}``, and
answers with a line, ``{"code" (-9: killed), "seconds", "counts", "last"}``, the last two not of one that was killed
from outside. A child is killed from outside ``after`` so many seconds, or by itself at the ``event`` ``[kind, k]``,
just before the k-th time that it opens, moves, removes or flushes a file below its folder ("edge"), or in the middle of
the k-th piece that it writes ("piece").
"""

import gc
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

EDGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}
IMPORTED = (
    *(
        "train",
        "train_cells",
        "train_grid",
        "annotate",
        "request",
        "grade_report",
        "grade_rows",
        "grade_texts",
    ),
    *("link_plan", "link_run", "link_table", "opening", "report_find"),
)
MORE = (
    *(
        "train.grid",
        "train.yardstick",
        "corpus.annotate",
        "corpus.requests.gates",
        "corpus.diversity.story_index",
    ),
    *("llm.client", "llm.batch", "grading.local.judge", "viz.report.page", "viz.report.studies"),
)

PAIRS, READ = 20, ("agreement", "word_order", "swapped_names")


def main():
    prepare()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def prepare():
    """Import what the commands import, make their measurements small, and make once what depends on no job."""
    warnings.simplefilter("ignore")
    for name in (*(f"cli.{one}" for one in IMPORTED), *MORE):
        importlib.import_module(f"tslens.{name}")
    importlib.import_module("tslens.cli.main")
    importlib.import_module("torch._dynamo")  # optimizers import it
    from tslens.cli import link_plan, link_run, report_find
    from tslens.grading.local.judge import LocalJudge
    from tslens.link import capability_map
    from tslens.link.map_report import STATUSES
    from tslens.link.ngram_null import author_like
    from tslens.link.random_sets import random_rungs
    from tslens.link.readouts import author_stories, make_readouts
    from tslens.llm import pace
    from tslens.model.load import load_model
    from tslens.train import loop
    from tslens.types import Graded

    told, made = list(islice(author_stories(), 12)), {}

    def few_readouts(tokenizer, **asked):
        key = (tokenizer.sha256, *sorted(asked.items()))
        if key not in made:
            found = make_readouts(tokenizer, **asked, stories=told)
            made[key] = [one for one in found if one.name in READ]
        return made[key]

    model = load_model("shipped:l1_h64")
    few_readouts(model.tokenizer, n_ctx=model.cfg.n_ctx, instruct=False, seed=0, n_pairs=PAIRS)
    like = author_like(model.tokenizer, n_ctx=model.cfg.n_ctx, n_counted=10, n_held_out=2)
    like = replace(like, train=list(like.train), held_out=list(like.held_out))
    link_run.make_readouts, link_run.stories_like = few_readouts, lambda *_: like
    capability_map.random_rungs = link_plan.random_rungs = partial(random_rungs, n_draws=2, shares=(0.25,))
    link_plan.PASSING, report_find.author_stories, report_find.N_MEANS = STATUSES, lambda: told, 4
    doses = link_plan.dose_pairs(told[:1], seed=0)[:2]
    link_plan.dose_pairs = lambda stories, seed: doses
    loop.STATE_SECONDS, loop.STATE_SHARE = 0.05, 0.5
    pace.BACKOFF_S = 0.001
    LocalJudge().grade([Graded("One day, Tom went to the", " park and played with his dog all day.", "a", 0)])
    gc.freeze()


def run(arguments, folder, environment, log, after=None, event=None):
    """One command line in a child; what became of it."""
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        work(arguments, folder, environment, log, event, writing)
    os.close(writing)
    status = 0
    while after is not None and time.monotonic() - began < after:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.0005)
    else:
        if after is not None:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    with os.fdopen(reading) as told:
        facts = json.loads(told.read() or "{}")
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, **facts}


def work(arguments, folder, environment, log, event, writing):
    """What the child does."""
    os.setsid()
    os.environ |= environment
    tempfile.tempdir = None
    os.chdir(folder)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = ["tslens", *arguments]
    counted = Counted(folder, event, writing)
    code = 1
    try:
        from tslens.cli.main import run as run_command

        run_command()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    counted.tell()
    os._exit(code)


class Counted:
    """Counts what the child does to files, and kills it at one of the events."""

    def __init__(self, folder, event, writing):
        self.folder, self.writing = os.path.realpath(folder), writing
        self.counts = {"edge": 0, "piece": 0}
        self.kind, self.k = event or (None, 0)
        self.last = ""
        self.write, self.fdopen = os.write, os.fdopen
        os.write, os.fsync, os.fdopen = self.counted_write, self.counted_fsync, self.counted_fdopen
        sys.addaudithook(self.hear)

    def hear(self, name, arguments):
        if name == "open":
            path, _, flags = arguments
            if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR) and self.is_own(path):
                self.count("edge", f"open {path}")
        elif name in EDGES and self.is_own(arguments[0]):
            self.count("edge", f"{name} {arguments[0]}")

    def is_own(self, path):
        """Whether a path, or an open file, is the job's."""
        if isinstance(path, int):
            return True
        return str(Path(os.fsdecode(path)).absolute()).startswith(self.folder)

    def count(self, kind, what, before=None):
        self.counts[kind] += 1
        if kind == self.kind and self.counts[kind] == self.k:
            if before is not None:
                before()
            self.last = what
            self.tell()
            os.kill(os.getpid(), signal.SIGKILL)

    def counted_write(self, descriptor, data):
        half = partial(self.write, descriptor, bytes(data)[: len(data) // 2])
        self.count("piece", "os.write", half)
        return self.write(descriptor, data)

    def counted_fsync(self, descriptor):
        self.count("edge", "os.fsync")  # a kill loses nothing of what the system has

    def counted_fdopen(self, descriptor, mode="r", *more, **options):
        file = self.fdopen(descriptor, mode, *more, **options)
        if isinstance(file, (io.TextIOWrapper, io.BufferedWriter)) and "r" not in mode:
            write = file.write

            def counted(data):
                def half():
                    write(data[: len(data) // 2])
                    file.flush()

                self.count("piece", "write of a file", half)
                return write(data)

            file.write = counted
        return file

    def tell(self):
        self.write(self.writing, json.dumps({"counts": self.counts, "last": self.last}).encode())


if __name__ == "__main__":
    main()

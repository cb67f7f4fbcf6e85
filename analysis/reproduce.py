"""The whole of the paper's system again, at a budget: trainings, studies, figures, and a page that says what came out.

    .venv/bin/python analysis/reproduce.py
    .venv/bin/python analysis/reproduce.py --budget gpu --out reproduced-gpu

1. Every committed study is written again from its committed rows and held against what is committed.
2. Small models are trained anew: a grid of widths and depths, heads, instruction models, seeds, a scaling grid.
3. They are measured, graded by the local judge, followed over training; figures are drawn.
4. ``index.html`` and ``report.md`` say for each table, figure and claim of the paper: reproduced, contradicted, or not
   decidable at this budget (``reproduce_page.py``; rules in ``docs/methods.md``, *Reproduction*).

What is done is kept in ``--out``: a run that is stopped goes on, and ends with the same bytes. Real stories are read
where ``$TSLENS_DATA`` has them, else the offline author's.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduce_page import write_pages

from tslens.audit.differences import compare_files
from tslens.audit.recorded import RECORD
from tslens.files import data_dir, locked, read_json, sha256_file, write_json

STORIES = "tinystories.jsonl.gz"
AUTHOR, AUTHOR_ALONE = "author:1777:1", "author:16000:1"
INSTRUCTED = "author:4000:3"
TOLERANCE = 1e-6
MARK = "done.json"
COMMITTED = Path("reports")
STUDIES: Mapping[str, str] = {
    "kinds": "head_kinds.py",
    "production": "head_production.py",
    "programs": "head_programs.py",
    "replication": "replication.py",
    "weights": "weights_alone.py",
    "neurons": "neuron_atlas.py",
    "composition": "composition.py",
    "conjecture": "conjecture.py",
    "link": "capability_map.py",
    "sizes": "sizes.py",
    "emergence": "emergence.py",
}
"""Studies that write their report from rows, by the folder of their report."""
WITHOUT_OPTION = frozenset({"link"})  # it only ever reads rows
KEPT = (".json", ".jsonl")  # what a report is written from


@dataclass(frozen=True)
class Budget:
    """What is trained. Grids are those of ``tslens train --grid``; tokens are of each cell.

    ``scaling_stories``: of the author, more than the tokens of a cell need.
    """

    tokens: int
    grid: str
    heads: str
    instruct: tuple[str, ...]
    emergence: str
    scaling: str
    scaling_stories: int
    samples: int


BUDGETS: Mapping[str, Budget] = {
    "trial": Budget(  # minutes: whether all of it runs here; its models learn nothing
        30_000,
        "layers=1,2 hidden=32,64",
        "layers=1 hidden=32 heads=1,4",
        ("l1_h32-instruct",),
        "l1_h32",
        "layers=1,2 hidden=16,32,64",
        400,
        1,
    ),
    "cpu": Budget(
        1_000_000,
        "layers=1,2,4 hidden=64,128,256",
        "layers=1 hidden=256 heads=2,4,8",
        ("l1_h128-instruct", "l2_h128-instruct"),
        "l2_h64",
        "layers=1,2 hidden=32,64,128",
        6_000,
        3,
    ),
    "gpu": Budget(
        20_000_000,
        "layers=1,2,4,8 hidden=64,128,256 seed=0,1,2",
        "layers=1,2 hidden=256 heads=2,4,8 seed=0,1,2",
        ("l1_h128-instruct", "l2_h128-instruct", "l4_h128-instruct", "l2_h256-instruct"),
        "l2_h128",
        "layers=1,2,4 hidden=32,64,128,256",
        120_000,
        10,
    ),
    "paper": Budget(
        600_000_000,
        "layers=1,2,4,8,12 hidden=64,128,256,512,768,1024 seed=0,1,2",
        "layers=1,2 hidden=768 heads=2,4,8 seed=0,1,2",
        ("l1_h256-instruct", "l2_h256-instruct", "l4_h256-instruct", "l8_h256-instruct", "l2_h768-instruct"),
        "l8_h256",
        "paper",
        3_500_000,
        10,
    ),
}


@dataclass(frozen=True)
class Stage:
    """A piece of work that is done or not. ``make`` writes into the folder, and goes on from what is there."""

    name: str
    make: Callable[[Path], None]


class Reproduction:
    """All stages of a budget, in one folder."""

    def __init__(self, budget: Budget, out: Path, *, seed: int) -> None:
        self.budget, self.out, self.seed = budget, out, seed
        real = data_dir() / STORIES
        self.stories = str(real) if real.exists() else None
        self.data = [self.stories, AUTHOR] if self.stories else [AUTHOR_ALONE]
        self.runs = out / "runs"

    def stages(self) -> Sequence[Stage]:
        """In the order in which they are done."""
        return (
            Stage("committed", self.compare_committed),
            Stage("training", self.train),
            Stage("scaling", self.scale),
            Stage("sizes", self.measure),
            Stage("emergence", self.follow),
            Stage("paper", self.draw),
        )

    def compare_committed(self, folder: Path) -> None:
        """Write the committed studies again from their rows; ``compared.json`` says what is not the same."""
        found = []
        for name, script in STUDIES.items():
            source, copy = COMMITTED / name, folder / name
            if not (source / "report.md").exists():
                continue
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir(parents=True)
            for file in sorted(source.iterdir()):
                if file.suffix in KEPT:
                    shutil.copyfile(file, copy / file.name)
            study(script, *(() if name in WITHOUT_OPTION else ("--report-only",)), "--out", copy)
            for file in sorted(source.iterdir()):
                if file.suffix in (*KEPT, ".md", ".csv") and (copy / file.name).exists():
                    result = compare_files(file, copy / file.name, tolerance=TOLERANCE)
                    found.append(
                        {
                            "file": str(file),
                            "n_values": result.n_values,
                            "n_differing": len(result.differing),
                            "first": result.differing[0].place if result.differing else None,
                        }
                    )
        write_json(folder / "compared.json", {"files": found})

    def train(self, folder: Path) -> None:
        """The grid, the heads, the instruction models, the seeds of the emergence study."""
        b = self.budget
        shape = b.emergence.removeprefix("l").partition("_h")
        for grid in (b.grid, b.heads, f"layers={shape[0]} hidden={shape[2]} seed=0,1,2"):
            self._train("--grid", grid, *self._data(self.data), "--out", self.runs / "sizes")
        texts = folder / "instructed.jsonl"
        if not texts.exists():
            source = self.stories or INSTRUCTED
            tslens("data", "instruct", source, "--seed", self.seed, "--out", texts)
        for model in b.instruct:
            run = self.runs / "sizes" / model / f"seed{self.seed}"
            if not (run / "DONE").exists():
                more = ("--resume",) if run.exists() else ()
                self._train("--model", model, *self._data([str(texts)]), "--out", run, *more)

    def _train(self, *arguments: object) -> None:
        tslens("train", *arguments, "--tokens", self.budget.tokens)

    def _data(self, sources: Sequence[str | None]) -> list[object]:
        return [word for source in sources for word in ("--data", source)]

    def scale(self, folder: Path) -> None:
        """The scaling grid, on stories of the author that never come again."""
        b = self.budget
        study(
            "scaling.py",
            *("--grid", b.scaling, "--tokens", b.tokens, "--stories", b.scaling_stories),
            *("--seed", self.seed, "--runs", self.runs / "scaling", "--out", folder),
        )

    def measure(self, folder: Path) -> None:
        """Every model that was trained: losses, readouts, grades, and what they say of the claims."""
        models = sorted(path.parent for path in (self.runs / "sizes").rglob("DONE"))
        stories = ("--stories", self.stories) if self.stories else ("--stories", "author:8000:0")
        study(
            "sizes.py",
            *("--models", *models, *stories, "--samples", self.budget.samples, "--seed", self.seed),
            *("--ours-only", "--scaling", self.out / "scaling" / "all.json", "--out", folder),
        )

    def follow(self, folder: Path) -> None:
        """Three seeds over training."""
        study(
            "emergence.py",
            *("--model", self.budget.emergence, "--tokens", self.budget.tokens, "--data", *self.data),
            *("--seed", self.seed, "--runs", self.runs / "sizes", "--out", folder),
        )

    def draw(self, folder: Path) -> None:
        """The paper's figures, of the shipped models."""
        study("paper_figures.py", "--seed", self.seed, "--out", folder)


def tslens(*arguments: object) -> None:
    """A command of tslens. Raises CalledProcessError if it fails."""
    subprocess.run(
        [sys.executable, "-m", "tslens", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL
    )


def study(script: str, *arguments: object) -> None:
    """A study. Raises CalledProcessError if it fails."""
    command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def is_done(folder: Path) -> bool:
    """Whether a stage ended, and its files are as it left them."""
    mark = folder / MARK
    if not mark.exists():
        return False
    known: Mapping[str, str] = read_json(mark)
    return all((folder / name).exists() and sha256_file(folder / name) == sha for name, sha in known.items())


def mark_done(folder: Path) -> None:
    """Remember what a stage wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARK and not path.name.endswith(RECORD)  # which says when
    )
    write_json(folder / MARK, {str(path.relative_to(folder)): sha256_file(path) for path in files})


def run_stages(work: Reproduction, only: Sequence[str] | None) -> None:
    """Every stage that is not done, or of these alone. Raises CalledProcessError where a command of one fails."""
    for stage in work.stages():
        folder = work.out / stage.name
        if only is not None and stage.name not in only:
            continue
        if is_done(folder):
            print(f"{stage.name}: done before", file=sys.stderr, flush=True)
            continue
        started = time.monotonic()
        print(f"{stage.name}: begins", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        stage.make(folder)
        mark_done(folder)
        print(f"{stage.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Stage after stage, then the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=None, help="these stages; the page says what is missing")
    parser.add_argument("--out", type=Path, default=Path("reproduced"))
    asked = parser.parse_args()
    with locked(asked.out):
        work = Reproduction(BUDGETS[asked.budget], asked.out, seed=asked.seed)
        try:
            run_stages(work, asked.only)
        except subprocess.CalledProcessError as error:
            sys.exit(
                f"error: this ended with exit code {error.returncode}: {shlex.join(error.cmd)}\n"
                "       What is done is kept: the same command goes on."
            )
        except KeyboardInterrupt:
            sys.exit("stopped; what is done is kept: the same command goes on")
        for file in write_pages(asked.out, budget=asked.budget):
            print(f"wrote {file}")


if __name__ == "__main__":
    main()

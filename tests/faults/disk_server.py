"""Runs command lines of tslens on a disk that fills, in processes that are forked from one that has all in memory.

One job a line on standard input, one answer a line on standard output. A job copies a small project onto a disk,
makes the fault, runs the command, looks at what stands there, takes the fault away and runs the command again.

A disk is a tmpfs in a mount namespace of the job's own (``room``, ``inodes``, ``read_only``); where nothing can be
mounted it is a folder, on which system calls fail as they would there (``events``: from the n-th on all that write;
``refused``: all of them), or whose files cannot grow beyond a size (``limit``). ``user``: run without root's rights in
a folder that may not be written.
"""

import contextlib
import ctypes
import errno
import fcntl
import gc
import gzip
import hashlib
import json
import os
import pkgutil
import resource
import shutil
import sys
import tempfile
import traceback
import zipfile
from importlib import import_module
from pathlib import Path

NEW_NAMESPACE, PRIVATE, READ_ONLY, REMOUNT = 0x00020000, 0x40000 | 0x4000, 1, 32
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
PIPE_BYTES = 1 << 20
CAPABILITY_VERSION, NO_CAPABILITIES = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None, use_errno=True)


# The disk -----------------------------------------------------------------------------------------------------


def mount(kind, place, flags, options):
    if libc.mount(kind, str(place).encode(), kind, flags, options):
        raise OSError(ctypes.get_errno(), "mount")


def own_tmpfs(place):
    """A tmpfs that only this process and its children see, and that goes with them."""
    if libc.unshare(NEW_NAMESPACE):
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(None, b"/", None, PRIVATE, None):
        raise OSError(ctypes.get_errno(), "private")
    mount(b"tmpfs", place, 0, b"size=256m")


def fill(place, room):
    """Write a file that leaves so many bytes."""
    state = os.statvfs(place)
    with (place / "ballast").open("wb") as file:
        file.truncate(max(0, state.f_bavail * state.f_frsize - room))
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - room))


def refuse_from(first, number, folder, *, also_removing):
    """From the n-th call on that would write below a folder, all of them fail with an error's number."""
    counter = {"n": 0}
    makes, removes = {"os.mkdir", "os.rename", "os.link", "os.symlink"}, {"os.remove", "os.rmdir", "os.chmod"}

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, (str, bytes, os.PathLike)) or not (flags or 0) & WRITES:
                return
        elif event in makes or (also_removing and event in removes):
            path = arguments[0]
        else:
            return
        path = os.fsdecode(path)
        if not os.path.abspath(path).startswith(str(folder)):  # noqa: PTH100
            return
        if event == "open" and number == errno.ENOSPC and os.path.exists(path):  # noqa: PTH110
            return
        counter["n"] += 1
        if counter["n"] > first:
            raise OSError(number, os.strerror(number), path)

    sys.addaudithook(hook)
    return counter


# One command --------------------------------------------------------------------------------------------------


def command(argv, disk, fault):
    """Exit code, output, errors and number of writing calls of a command, run in a child."""
    pipes = [os.pipe() for _ in range(3)]  # no files: their size may be limited
    for _, mouth in pipes:
        fcntl.fcntl(mouth, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.dup2(pipes[0][1], 1)
            os.dup2(pipes[1][1], 2)
            counter = begin(fault, disk)
            sys.argv = ["tslens", *argv]
            code = run()
            os.write(pipes[2][1], str(counter["n"]).encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    texts = []
    for ear, mouth in pipes:
        os.close(mouth)
        with os.fdopen(ear, "rb") as file:
            texts.append(file.read().decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "out": texts[0], "err": texts[1], "n_events": int(texts[2] or 0)}


def begin(fault, disk):
    """Make the faults that are of a process; the counter of writing calls."""
    if "limit" in fault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["limit"], resource.RLIM_INFINITY))
    elif "user" in fault and libc.capset(CAPABILITY_VERSION, NO_CAPABILITIES):
        raise OSError(ctypes.get_errno(), "capset")
    elif "refused" in fault:
        return refuse_from(0, errno.EROFS, disk, also_removing=True)
    elif not fault or "events" in fault:
        return refuse_from(fault.get("events", 10**9), errno.ENOSPC, disk, also_removing=False)
    return {"n": 0}


def run():
    """Run the command in ``sys.argv``; its exit code."""
    from tslens.cli import main

    try:
        main.run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def files_of(disk):
    """SHA-256 of each file, by its path; locks and the ballast are none of ours."""
    return {
        str(path.relative_to(disk)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(disk.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def is_whole(path):
    """Whether a file ends as its kind does."""
    kind, data = path.suffix.lower(), path.read_bytes()
    try:
        if path.name.endswith(".jsonl.gz"):
            data, kind = gzip.decompress(data), ".jsonl"
        if kind == ".json":
            json.loads(data)
        elif kind == ".jsonl":
            return data.endswith(b"\n") and all(json.loads(line) for line in data.splitlines())
        elif kind == ".npy":
            import numpy as np

            np.load(path)
        elif kind in {".npz", ".pt"}:
            return zipfile.ZipFile(path).testzip() is None
        elif kind == ".safetensors":
            from safetensors.numpy import load

            load(data)
        elif kind in {".html", ".svg"}:
            return data.rstrip().endswith(f"</{kind[1:]}>".encode())
        elif kind == ".png":
            return b"IEND" in data[-12:]
        elif kind == ".pdf":
            return data.rstrip().endswith(b"%%EOF")
        else:
            return bool(data)
    except Exception:
        return False
    return True


# One job ------------------------------------------------------------------------------------------------------


def work(job, place, template, mounts):
    """What came of a job; runs in a process of its own."""
    fault, argv = job["fault"], job["argv"]
    if mounts:
        own_tmpfs(place)
    disk = place / "project"
    shutil.copytree(template, disk)
    os.chdir(disk)
    for folder in ("tmp", "home"):
        (disk / folder).mkdir()
    os.environ |= {"TMPDIR": str(disk / "tmp"), "HOME": str(disk / "home")}
    tempfile.tempdir = None
    before = files_of(disk)
    free = os.statvfs(place)
    if "room" in fault:
        fill(place, fault["room"])
    elif "inodes" in fault:
        used = free.f_files - free.f_ffree
        mount(b"tmpfs", place, REMOUNT, f"size=256m,nr_inodes={used + fault['inodes']}".encode())
    elif "read_only" in fault:
        mount(b"tmpfs", place, REMOUNT | READ_ONLY, b"size=256m")
    elif "user" in fault:
        place.chmod(0o755)
        for path in (disk, *disk.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
    first = command(argv, disk, fault)
    after = files_of(disk)
    used = free.f_bavail - os.statvfs(place).f_bavail
    found = {
        **first,
        "changed": sorted(name for name in before if after.get(name) != before[name]),
        "new": {name: after[name] for name in after if name not in before},
        "torn": sorted(
            name for name in after if before.get(name) != after[name] and not is_whole(disk / name)
        ),
        "used": used * free.f_frsize,
    }
    if job.get("again") is None or not (found["code"] and (found["new"] or found["changed"])):
        return found  # it was done, or nothing was: the same command begins where it began
    if "room" in fault:
        (place / "ballast").unlink()
    elif {"inodes", "read_only"} & set(fault):
        mount(b"tmpfs", place, REMOUNT, b"size=256m,nr_inodes=100000")
    elif "user" in fault:
        for path in (disk, *disk.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    found["second"] = command(job["again"], disk, {})
    end = files_of(disk)
    found["second"]["files"] = {name: end[name] for name in end if before.get(name) != end[name]}
    return found


def in_child(function, *arguments):
    """The answer of a function that runs in a forked process, or what it failed with."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ear)
        try:
            answer = function(*arguments)
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        with os.fdopen(mouth, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(mouth)
    with os.fdopen(ear) as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text)


def can_mount(place):
    """Whether a tmpfs can be mounted here."""

    def tried():
        own_tmpfs(place)
        return True

    return in_child(tried) is True


# The project --------------------------------------------------------------------------------------------------


def make_small():
    """Scans with few random twins, so that many can be run; the author tells each story once."""
    from functools import lru_cache, partial
    from itertools import islice

    from tslens.corpus import author
    from tslens.link.ngram_null import author_like
    from tslens.link.random_sets import random_rungs

    for name, value in {
        "tslens.probes.twins.N_TWINS": {"fresh": 1, "redrawn": 1},
        "tslens.probes.neurons.classify.N_TWINS": 1,
        "tslens.probes.matching.heads.N_TWINS": 1,
        "tslens.probes.programs.score.N_TWINS": 1,
        "tslens.probes.neurons.dose.SHARES": (0.5,),
        "tslens.probes.induction.N_SEQUENCES": 16,
        "tslens.cli.link_plan.DOSE_STORIES": 1,
        "tslens.cli.heads.N_STORIES": 20,
        "tslens.cli.demo.N_EXPLAIN": 2,
    }.items():
        module, _, attribute = name.rpartition(".")
        setattr(import_module(module), attribute, value)
    author._tell = lru_cache(8192)(author._tell)
    few = partial(random_rungs, n_draws=1, shares=(0.25,))

    def stories_like(model, tokenizer, source):
        return author_like(tokenizer, n_ctx=model.cfg.n_ctx, n_counted=20, n_held_out=4)

    from tslens.link import readouts

    told = list(islice(readouts.author_stories(), 60))
    made = partial(readouts.make_readouts, stories=told)
    for module in ("tslens.link.capability_map", "tslens.cli.link_plan"):
        import_module(module).random_rungs = few
    import_module("tslens.cli.emergence_read").make_readouts = made
    for module in ("tslens.cli.link_run", "tslens.cli.link_sizes"):
        import_module(module).make_readouts = made
        import_module(module).stories_like = stories_like


def import_all(names):
    """What commands import, so that each is forked with it in memory; no names: every module of tslens."""
    import tslens

    for name in names or [one.name for one in pkgutil.walk_packages(tslens.__path__, "tslens.")]:
        with contextlib.suppress(ImportError):
            if not name.endswith("__main__"):
                import_module(name)


def main():
    files, lines, modules = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import_all(modules)
    if not modules:
        make_small()
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="template") as name:
        place = Path(name)
        template = place / "project"
        shutil.copytree(files, template)
        os.chdir(template)
        for line in lines:
            made = in_child(command, line, template, {})
            if made.get("code") not in {0, 3}:
                print(json.dumps({"failed": f"{line}: {made}"}), file=answers, flush=True)
                return
        mounts = can_mount(place)
        print(json.dumps({"mounts": mounts}), file=answers, flush=True)
        for line in sys.stdin:
            job = json.loads(line)
            if "room" in job["fault"] or "inodes" in job["fault"] or "read_only" in job["fault"]:
                assert mounts, job
            disk = place / "disk"  # always the same: some files are named by where they stand
            disk.mkdir()
            found = in_child(work, job, disk, template, mounts)
            shutil.rmtree(disk)
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Feeds damaged inputs to everything that reads one, and counts what is no orderly answer.

Videos, bitstreams, pictures, networks, engine files, notes, palettes, configurations, lists,
addresses and command lines are made here, then mutated with a seed: bits, bytes, numbers at
their limits, cuts, copies, splices of two files; for text, pieces that mean something
elsewhere. Orderly is a result, or an error of the room's own family with its reason word. All
else is a finding: another exception, a traceback, a process that dies, an answer that does not
come.

Inputs are tried in processes of their own, since native code may take the process with it; one
that dies is replaced, and its input is kept.

    python benchmarks/fuzz.py [--count 12000] [--seed 1] [--workers 2] [--keep DIR] [--kinds A,B]

Ends with 0 where there was no finding.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz_mutate import mutate_bytes, mutate_text
from fuzz_seeds import ROOT, SHARES, Seed, make_seeds

TRIALS = Path(__file__).resolve().with_name("fuzz_trials.py")
HANG_S = 60.0


class Worker:
    """A process that tries inputs; a new one is made when it died or hung."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, str(TRIALS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def try_one(self, kind: str, path: Path) -> dict[str, Any]:
        """Return the worker's answer, or the finding that there was none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(HANG_S, self._process.kill)
        began_s = time.monotonic()
        late.start()
        try:
            self._process.stdin.write(json.dumps([kind, str(path)]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            late.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        hung = time.monotonic() - began_s >= HANG_S
        self._process.stdout.close()
        self._process = self._start()
        what = f"no answer within {HANG_S:.0f} s" if hung else f"the process died ({code})"
        return {"finding": what, "where": kind, "trace": ""}

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def inputs(seeds: Sequence[Seed], count: int, seed: int, kinds: Sequence[str]) -> Iterator[Seed]:
    """Yield mutated inputs; the same for the same seed."""
    rng = random.Random(seed)
    weights = [SHARES[kind] for kind in kinds]
    by_kind = {kind: [s for s in seeds if s.kind == kind] for kind in kinds}
    binary = {"container", "bitstream", "image", "onnx", "plan"}
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        one, other = rng.choice(by_kind[kind]), rng.choice(by_kind[kind])
        if kind in binary or rng.random() < 0.15:
            data = mutate_bytes(one.data, other.data, rng)
        else:
            text = mutate_text(one.data.decode(), other.data.decode(), rng)
            data = text.encode("utf-8", "surrogatepass")
        yield Seed(kind, one.suffix, data)


def fuzz(
    count: int, seed: int, workers: int, kinds: Sequence[str], keep: Path | None
) -> tuple[Counter[tuple[str, str]], list[dict[str, Any]]]:
    """Try inputs and return how each kind ended, and the findings."""
    ends: Counter[tuple[str, str]] = Counter()
    findings: list[dict[str, Any]] = []
    lock = threading.Lock()
    waiting: queue.Queue[tuple[int, Seed] | None] = queue.Queue(maxsize=4 * workers)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        seeds = make_seeds(folder)

        def run() -> None:
            worker = Worker()
            own = Path(tempfile.mkdtemp(dir=folder))
            while (item := waiting.get()) is not None:
                number, made = item
                path = own / f"input{made.suffix}"
                path.write_bytes(made.data)
                answer = worker.try_one(made.kind, path)
                with lock:
                    ends[made.kind, answer.get("end", "FINDING")] += 1
                    if "finding" in answer:
                        answer |= {"kind": made.kind, "number": number, "bytes": len(made.data)}
                        findings.append(answer)
                        print(f"  {answer['kind']} {number}: {answer['finding']} "
                              f"({answer['where']})", flush=True)  # fmt: skip
                        if keep is not None:
                            keep.mkdir(parents=True, exist_ok=True)
                            (keep / f"{made.kind}-{number}{made.suffix}").write_bytes(made.data)
                            trace = keep / f"{made.kind}-{number}.trace"
                            trace.write_text(answer["trace"], errors="replace")
            worker.close()

        threads = [threading.Thread(target=run) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for item in enumerate(inputs(seeds, count, seed, kinds)):
            waiting.put(item)
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
    return ends, findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the counts, and return 0 where there was no finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(SHARES), help="some of: " + ", ".join(SHARES))
    parser.add_argument("--keep", type=Path, help="where inputs of findings are kept")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    kinds = options.kinds.split(",")
    began_s = time.monotonic()
    ends, findings = fuzz(options.count, options.seed, options.workers, kinds, options.keep)
    print(f"{sum(ends.values())} inputs, seed {options.seed}, {time.monotonic() - began_s:.0f} s")
    for kind in kinds:
        of_kind = {end: count for (name, end), count in ends.items() if name == kind}
        told = ", ".join(f"{n} {end}" for end, n in sorted(of_kind.items(), key=lambda e: -e[1]))
        print(f"{kind:<12}{sum(of_kind.values()):>6}  {told}")
    print(f"findings    {len(findings):>6}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

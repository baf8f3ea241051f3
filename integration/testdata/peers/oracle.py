"""Writes random metrics with client_python's multiprocess mode, from several processes, and what it exposes for them.

oracle.py many OUT N: N directories OUT/0, OUT/1, ..., each beside OUT/0.prom, what is exposed for it.
oracle.py live DIR OUT: one directory, whose processes go on with each line of standard input; then OUT is written and a
line is printed.
"""
import os
import random
import sys

os.environ["PROMETHEUS_MULTIPROC_DIR"] = "/nonexistent"  # before the import, which decides by it

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # noqa: E402

VALUES = ["", "GET", "a b", 'quo"te', "back\\slash", "new\nline", "/path/{id}", "ünï", "😀", "a,b=c", "x" * 300]
HELPS = ["h", "back\\slash", "two\nlines", 'a "quoted" word', "ünï"]
NUMBERS = [0, 1, 7, 3.25, -5, 1e9, 2**53 + 2.0, 1e-9, -1e300, float("inf"), float("-inf")]
BUCKETS = [(1, 2, 3), (0.1, 0.5, 1.0, 5.0), (-1, 0, 1), (1e-9, 1e9), Histogram.DEFAULT_BUCKETS]


def spec(rng):
    """What all processes of one directory define: constructor, name, keyword arguments, label names."""
    metrics = []

    def add(new, name, **arguments):
        labels = ["l%d" % i for i in range(rng.choice([0, 0, 1, 2, 3]))]
        if rng.random() < 0.1:
            labels.append("pid" if new is Gauge else "worker")
        metrics.append((new, name, rng.choice(HELPS), labels, arguments))

    for i in range(rng.randint(0, 4)):
        add(Counter, rng.choice(["c%d_things", "c%d_things_total"]) % i)
    for mode in sorted(Gauge._MULTIPROC_MODES):
        if rng.random() < 0.6:
            add(Gauge, "g_" + mode, multiprocess_mode=mode)
    for i in range(rng.randint(0, 3)):
        add(Histogram, "h%d_seconds" % i, buckets=rng.choice(BUCKETS))
    for i in range(rng.randint(0, 2)):
        add(Summary, "s%d_bytes" % i)
    return metrics


class Process:
    """One process's metrics."""

    def __init__(self, directory, metrics, seed):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        self.rng = random.Random(seed)
        registry = CollectorRegistry()
        # A process need not have everything that others have.
        self.metrics = [
            new(name, help, labels, registry=registry, **arguments)
            for new, name, help, labels, arguments in metrics
            if self.rng.random() < 0.85
        ]

    def act(self, steps):
        rng = self.rng
        for _ in range(steps if self.metrics else 0):
            metric = rng.choice(self.metrics)
            child = metric
            if metric._labelnames:
                child = metric.labels(*[rng.choice(VALUES) for _ in metric._labelnames])
            if isinstance(metric, Counter):
                child.inc(rng.choice([1, 1, 2, 0.1, 1e6, rng.random()]))
            elif isinstance(metric, Gauge):
                if rng.random() < 0.8:
                    child.set(rng.choice(NUMBERS + [rng.random()]))
            else:
                child.observe(rng.choice([rng.random(), rng.random() * 10, -0.5, 0, 1, 2, 1e9]))

    def many(self, n):
        """More series than the file has place for at first."""
        for metric in self.metrics:
            if isinstance(metric, Counter) and len(metric._labelnames) == 1:
                for i in range(n):
                    metric.labels("value number %d of many" % i).inc(i)


def expose(directory, out):
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)
    with open(out + ".new", "wb") as f:
        f.write(generate_latest(registry))
    os.rename(out + ".new", out)


def many(out, n):
    for i in range(n):
        rng = random.Random(i)
        directory = os.path.join(out, str(i))
        os.mkdir(directory)
        metrics = spec(rng)
        pids = []
        for k in range(rng.randint(1, 4)):
            pid = os.fork()
            if pid == 0:
                p = Process(directory, metrics, 1000 * i + k)
                p.act(rng.choice([0, 5, 30, 100]))
                if i % 20 == 0:
                    p.many(1500)
                os._exit(0)
            os.waitpid(pid, 0)
            pids.append(pid)
        for pid in pids:
            if rng.random() < 0.3:
                mark_process_dead(pid, directory)
        expose(directory, directory + ".prom")


class Child:
    """A process that acts when it is told to, until its pipe ends."""

    def __init__(self, directory, metrics, seed, inherited):
        there, self.told = os.pipe()
        self.answers, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for other in inherited:
                os.close(other.told)
                os.close(other.answers)
            os.close(self.told)
            p = Process(directory, metrics, seed)
            while os.read(there, 1):
                p.act(p.rng.randint(0, 20))
                os.write(answer, b".")
            os._exit(0)
        os.close(there)
        os.close(answer)

    def step(self):
        os.write(self.told, b".")
        assert os.read(self.answers, 1)

    def end(self, directory):
        os.close(self.told)
        os.close(self.answers)
        os.waitpid(self.pid, 0)
        mark_process_dead(self.pid, directory)


def live(directory, out):
    rng = random.Random(directory)
    metrics = spec(random.Random(7))
    children = []
    n = 0
    for _ in sys.stdin:
        if children and rng.random() < 0.2:
            children.pop(rng.randrange(len(children))).end(directory)
        if not children or len(children) < 5 and rng.random() < 0.4:
            children.append(Child(directory, metrics, n, children))
            n += 1
        for child in children:
            child.step()
        expose(directory, out)
        print(len(children), flush=True)
    for child in children:
        child.end(directory)


if __name__ == "__main__":
    if sys.argv[1] == "many":
        many(sys.argv[2], int(sys.argv[3]))
    else:
        live(sys.argv[2], sys.argv[3])

"""The multiprocess mode of client_python: ARGS are a directory, the kind of work, workers and series of each."""
import json
import os
import resource
import shutil
import sys
import time

directory, kind, workers, series = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

LABELS = ["code", "route"]
BOUNDS = [.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10]


def fill():
    if kind == "histograms":
        metric = Histogram("bench_duration_seconds", "What is measured.", LABELS, buckets=BOUNDS)
    else:
        metric = Counter("bench_requests_total", "What is measured.", LABELS)
    for i in range(series):
        child = metric.labels("code%d" % (i % 10), "/route/%d" % (i // 10))
        if kind == "histograms":
            for v in (.003, (i % 10) / 8, 12):
                child.observe(v)
        else:
            child.inc((i + 1) * .1 if kind == "fractions" else 3 * i + 1)


# A process of its own writes one worker's file, so that this one has read nothing yet; the other workers' are the same.
if os.fork() == 0:
    fill()
    os._exit(0)
if os.wait()[1] != 0:
    sys.exit("the files could not be written")
for name in os.listdir(directory):
    for n in range(1, workers):
        shutil.copy(os.path.join(directory, name), os.path.join(directory, "%s_%d.db" % (name.rsplit("_", 1)[0], 10**7 + n)))


def scrape():
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)
    return generate_latest(registry)


print("ready", flush=True)
for line in sys.stdin:
    command, argument = line.split()
    if command == "write":
        with open(argument, "wb") as f:
            f.write(scrape())
        print("{}", flush=True)
        continue
    wall, size = [], 0
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(int(argument)):
        start = time.perf_counter_ns()
        size = len(scrape())
        wall.append(time.perf_counter_ns() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall": wall, "cpu": int(cpu * 1e9), "bytes": size}), flush=True)

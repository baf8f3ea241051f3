"""Times client_python's multiprocess mode on directories that it has written.

speed.py counters DIR PROCESSES N: processes with N counters each.
speed.py many DIR PROCESSES: processes with the four files each, of about 100 entries, that client_python's issue 367 tells of.
Then each line of standard input makes one exposition, and the seconds that it took are printed.
"""
import os
import sys
import time

os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[2]

from prometheus_client import CollectorRegistry, generate_latest, values  # noqa: E402

pid = [1 << 22]  # none that a process has
values.ValueClass = values.MultiProcessValue(lambda: pid[0])

from prometheus_client import Counter, Gauge, Histogram, Summary  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

what, directory, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
registry = CollectorRegistry()
handles = []
if what == "counters":
    c = Counter("requests", "Requests that were answered.", ["method", "path", "code"], registry=registry)
    for i in range(int(sys.argv[4])):
        handles.append(c.labels("GET", "/api/v1/things/%d" % (i // 10), str(200 + i % 10)).inc)
else:
    c = Counter("requests", "Requests.", ["path"], registry=registry)
    h = Histogram("request_seconds", "Time that requests took.", ["path"], registry=registry)
    s = Summary("request_bytes", "Sizes of requests.", ["path"], registry=registry)
    g = Gauge("in_flight", "Requests that are being answered.", ["path"], multiprocess_mode="livesum", registry=registry)
    for i in range(100):
        handles.append(c.labels("/things/%d" % i).inc)
    for i in range(10):
        handles.append(lambda child=h.labels("/things/%d" % i): child.observe(0.3))
    for i in range(40):
        handles.append(lambda child=s.labels("/things/%d" % i): child.observe(100))
    for i in range(50):
        handles.append(lambda child=g.labels("/things/%d" % i): child.set(2))
for i in range(processes):
    for handle in handles:
        handle()
    pid[0] += 1  # the next call opens the files of another process

print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    collected = CollectorRegistry()
    MultiProcessCollector(collected, path=directory)
    generate_latest(collected)
    print(time.perf_counter() - start, flush=True)

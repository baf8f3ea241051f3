"""Processes with client_python's multiprocess mode that come and go, all with one of a handful of pids.

storm.py DIR N: as the first process of a pid namespace, N processes count in DIR and die; then the sum of what they have
counted is printed. It ends, and everything in the namespace with it, when its standard input does.
"""
import os
import random
import signal
import sys
import time

directory, n = sys.argv[1], int(sys.argv[2])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory

from prometheus_client import CollectorRegistry, Counter, Gauge  # noqa: E402

PIDS = range(300, 306)
LIVING = 3


def live(increments):
    registry = CollectorRegistry()
    counter = Counter("storm", "Increments.", ["l"], registry=registry)
    alive = Gauge("storm_alive", "Processes.", multiprocess_mode="livesum", registry=registry)
    alive.set(1)
    for i in range(increments):
        counter.labels(str(i % 3)).inc()
    if random.random() < 0.5:
        time.sleep(random.random() / 100)
    if random.random() < 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


living = set()
total = 0


def reap():
    pid, _ = os.wait()
    living.discard(pid)


for _ in range(n):
    while len(living) >= LIVING:
        reap()
    pid = random.choice([p for p in PIDS if p not in living])
    with open("/proc/sys/kernel/ns_last_pid", "w") as f:
        f.write(str(pid - 1))
    increments = random.randint(0, 5)
    child = os.fork()
    if child == 0:
        random.seed()
        live(increments)
    living.add(child)  # another one than was asked for, if somebody else has forked just then
    total += increments
while living:
    reap()
print(total, flush=True)
sys.stdin.read()

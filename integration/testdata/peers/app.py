"""A Flask application with metrics of client_python's multiprocess mode, as anybody would write it.

LEDGER gets a byte for each request, so that the tests know how many there were, whoever answered them.
"""
import os

from flask import Flask
from prometheus_client import Counter, Gauge, Histogram

app = Flask(__name__)
requests = Counter("app_requests", "Requests.", ["path"])
spent = Histogram("app_request_seconds", "Time that requests took.")
alive = Gauge("app_alive", "Workers that have answered and live.", multiprocess_mode="livesum")
each = Gauge("app_worker", "1 for each such worker.", multiprocess_mode="liveall")
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@app.route("/")
@app.route("/<path>")
def answer(path=""):
    alive.set(1)
    each.set(1)
    with spent.time():
        requests.labels("/" + path).inc()
    os.write(ledger, b".")
    return str(os.getpid())

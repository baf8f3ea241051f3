package worker_test

import (
	"log"

	"github.com/prometheus/client_golang/prometheus/push"

	"github.com/onescrape/onescrape/worker"
)

// Where nobody scrapes, the metrics of the whole server, not those of one process, go to a push gateway. A Store of
// package aggregate can be pushed in the same way, by a process that is no worker.
func ExampleGatherer_push() {
	if err := push.New("http://pushgateway:9091", "nightly").Gatherer(worker.Gatherer()).Push(); err != nil {
		log.Print(err)
	}
}

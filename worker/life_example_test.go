package worker_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/worker"
)

// A server that master.Run did not start: it runs below onescrape run, below systemd with socket activation, or alone on
// the address that is given here.
func ExampleFromEnvironment() {
	w, err := worker.FromEnvironment(context.Background(), "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	hello := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "hello\n") })
	if err := w.Serve(&http.Server{Handler: hello}); err != nil {
		log.Fatal(err)
	}
}

// A program whose environment names no store names it itself.
func ExampleOpen() {
	jobs := worker.NewCounter(prometheus.CounterOpts{Name: "example_batch_jobs_total", Help: "Jobs done."})
	jobs.Inc() // in process memory

	parent, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if err := worker.Open(parent + "/store"); err != nil {
		log.Fatal(err)
	}
	jobs.Inc() // in the store, with what was counted before
	fmt.Println(testutil.ToFloat64(jobs))
	fmt.Println(worker.Detach())
	// Output:
	// 2
	// <nil>
}

// A process that finds that it is a master takes its metrics out of the store again.
func ExampleDetach() {
	fmt.Println(worker.Detach())
	// Output: <nil>
}

// Every worker answers with the metrics of all workers.
func ExampleHandler() {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", worker.Handler(aggregate.HandlerOptions{}))
}

func ExampleGatherer() {
	worker.NewCounter(prometheus.CounterOpts{Name: "example_gathered_total", Help: "Counted."}).Add(5)
	families, err := worker.Gatherer().Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "example_gathered_total" {
			fmt.Println(f.Metric[0].Counter.GetValue())
		}
	}
	// Output: 5
}

// What the default registry has, such as the metrics of the process and of the Go runtime, once for the program.
func ExampleExportDefault() {
	worker.ExportDefault()
}

func ExampleDefaultExportMode() {
	fmt.Println(worker.DefaultExportMode("go_goroutines"))
	fmt.Println(worker.DefaultExportMode("process_start_time_seconds"))
	// Output:
	// livesum
	// livemin
}

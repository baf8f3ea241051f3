package aggregate_test

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// A process that is no worker exposes a store, and folds what dead workers leave.
func ExampleOpen() {
	store, err := aggregate.Open("/dev/shm/onescrape-1000-web", aggregate.Options{})
	if err != nil {
		log.Print(err)
		return
	}
	defer store.Close()
	http.Handle("GET /metrics", store.Handler(aggregate.HandlerOptions{}))
}

func ExampleStore_Gather() {
	parent, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir, err := shmstore.OpenDir(parent+"/store", shmstore.DirOptions{Create: true})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	// Two processes count the same.
	for range 2 {
		w, err := dir.Create(shmstore.WriterOptions{Slot: -1})
		if err != nil {
			log.Fatal(err)
		}
		defer w.Close()
		family, err := w.AddFamily(shmstore.Family{Name: "jobs_total", Type: shmstore.CounterType})
		if err != nil {
			log.Fatal(err)
		}
		series, err := w.AddSeries(family, nil)
		if err != nil {
			log.Fatal(err)
		}
		series.Cells[0] = 3
	}

	store, err := aggregate.Open(dir.Path(), aggregate.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	families, err := store.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "jobs_total" {
			fmt.Println(f.Metric[0].Counter.GetValue())
		}
	}
	// Output: 6
}

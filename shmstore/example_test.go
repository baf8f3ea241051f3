package shmstore_test

import (
	"fmt"
	"log"
	"os"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// A process writes a counter, and another one, here the same, reads it.
func ExampleOpenDir() {
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

	w, err := dir.Create(shmstore.WriterOptions{Slot: 0})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	family, err := w.AddFamily(shmstore.Family{Name: "jobs_total", Type: shmstore.CounterType, Labels: []string{"kind"}})
	if err != nil {
		log.Fatal(err)
	}
	series, err := w.AddSeries(family, []string{"mail"})
	if err != nil {
		log.Fatal(err)
	}
	series.Cells[0] = 7 // a program with goroutines adds with sync/atomic

	r, err := dir.Open(w.Name())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if err := r.Refresh(); err != nil {
		log.Fatal(err)
	}
	alive, err := r.Alive()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Families()[0].Name, len(r.Series()), alive)
	cell := r.Series()[0].Cell
	err = r.Read(func(words []uint64) { fmt.Println(words[cell]) })
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// jobs_total 1 true
	// 7
}

func ExampleDefaultPath() {
	path, warning := shmstore.DefaultPath("web")
	if warning != "" {
		log.Print(warning)
	}
	log.Print("the store is ", path)
}

// A resolution for quantiles that are at most 1 % off.
func ExampleNewResolution() {
	r := quantile.NewResolution(quantile.ResolutionFor(0.01))
	fmt.Println(r.Error() <= 0.01)
	// Output: true
}

func ExampleNewExemplarSlot() {
	slot := shmstore.NewExemplarSlot(64)
	fmt.Println(slot.Fits(64), slot.Fits(1<<20))
	// Output: true false
}

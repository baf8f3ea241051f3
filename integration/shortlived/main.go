// Command shortlived is a worker that lives for a moment: it writes a few values into the store that ONESCRAPE_DIR names and
// ends. It uses the store alone, because ten thousand of it have to start in a test.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "shortlived:", err)
		os.Exit(1)
	}
}

// write adds n+1 to the counter shortlived_total{n="n"}, for n from 0 to 2.
func write() error {
	dir, err := shmstore.OpenDir(os.Getenv("ONESCRAPE_DIR"), shmstore.DirOptions{})
	if err != nil {
		return err
	}
	w, err := dir.Create(shmstore.WriterOptions{Slot: -1})
	if err != nil {
		return err
	}
	id, err := w.AddFamily(shmstore.Family{
		Name: "shortlived_total", Help: "Lives.", Type: shmstore.CounterType, Labels: []string{"n"},
	})
	if err != nil {
		return err
	}
	for n := range 3 {
		s, err := w.AddSeries(id, []string{strconv.Itoa(n)})
		if err != nil {
			return err
		}
		atomic.AddUint64(&s.Cells[shmstore.CounterInteger], uint64(n+1))
	}
	return w.Close()
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// churnRate is how many label sets each worker makes and deletes in a second.
const churnRate = 10_000

// churning is what scrapes take while workers make and delete label sets.
type churning struct {
	Work  work
	CPU   time.Duration // of the processor, in the mean
	Worst time.Duration // by the clock
	Rest  time.Duration // the median before there was any churn
	Store int64         // bytes of files at the end
	Held  int           // series that files of this size have at rest
	Full  time.Duration // the median of a scrape of as many series at rest
}

// churn is a process with all workers of some work. For each line that comes it churns for as many milliseconds as the line says,
// and answers.
func churn(dir string, w work) error {
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{Create: true})
	if err != nil {
		return err
	}
	type churner struct {
		*shmstore.Writer
		family uint32
		made   int
	}
	var all []*churner
	for slot := range w.Workers {
		writer, err := d.Create(shmstore.WriterOptions{Slot: slot})
		if err != nil {
			return err
		}
		c := &churner{Writer: writer}
		if c.family, err = writer.AddFamily(shmstore.Family{Name: counterName, Help: help, Type: shmstore.CounterType, Labels: labelNames}); err != nil {
			return err
		}
		for i := range w.Series {
			s, err := writer.AddSeries(c.family, labels(i))
			if err != nil {
				return err
			}
			set(s.Cells, w, i)
		}
		writer.SetReady()
		all = append(all, c)
	}
	fmt.Println("ready")
	for {
		var ms int
		if _, err := fmt.Scan(&ms); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		const each = churnRate / 1000 // a millisecond
		began := time.Now()
		for tick := range ms {
			for _, c := range all {
				for range each {
					c.made++
					s, err := c.AddSeries(c.family, []string{"churned", strconv.Itoa(c.made)})
					if err != nil {
						return err
					}
					s.Cells[shmstore.CounterInteger]++
					c.Delete(s)
					c.Released(s)
				}
			}
			time.Sleep(time.Until(began.Add(time.Duration(tick+1) * time.Millisecond)))
		}
		fmt.Println("{}")
	}
}

// measureChurn scrapes once a stretch while the workers churn and their releases are folded, as in a master.
func measureChurn(w work, scrapes int, stretch time.Duration, base string) (c churning, err error) {
	c.Work = w
	dir := filepath.Join(base, "churn")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return c, err
	}
	defer os.RemoveAll(dir)
	argv, env := asRole("churn", dir, w)
	workers, err := startScraper("churn", argv, env)
	if err != nil {
		return c, err
	}
	defer workers.stop()
	argv, env = asRole(ours, dir, w)
	s, err := startScraper(ours, argv, env)
	if err != nil {
		return c, err
	}
	defer s.stop()
	rest, err := s.scrape(11)
	if err != nil {
		return c, err
	}
	c.Rest = median(rest.Wall)
	before, err := diskUsage(dir)
	if err != nil {
		return c, err
	}
	folder, err := aggregate.Open(dir, aggregate.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return c, err
	}
	defer folder.Close()
	ctx, stop := context.WithCancel(context.Background())
	folded := make(chan error, 1)
	go func() { folded <- folder.Run(ctx) }()
	defer func() { stop(); <-folded }()
	whole := time.Duration(scrapes) * stretch
	over := make(chan error, 1)
	go func() { over <- workers.ask(strconv.FormatInt(whole.Milliseconds(), 10), &struct{}{}) }()
	var cpu int64
	var wall []int64
	for range scrapes {
		time.Sleep(stretch / 2)
		one, err := s.scrape(1)
		if err != nil {
			return c, err
		}
		cpu, wall = cpu+one.CPU, append(wall, one.Wall...)
		time.Sleep(stretch / 2)
	}
	if err := <-over; err != nil {
		return c, err
	}
	c.CPU, c.Worst = time.Duration(cpu/int64(scrapes)), time.Duration(slices.Max(wall))
	if c.Store, err = diskUsage(dir); err != nil {
		return c, err
	}
	c.Held = int(c.Store * int64(w.Workers*w.Series) / before)
	return c, c.measureFull(base)
}

// measureFull measures a scrape at rest of as many series as the churned files have room for.
func (c *churning) measureFull(base string) error {
	w := c.Work
	w.Kind, w.Series = whole, c.Held/w.Workers
	dir := filepath.Join(base, "full")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	argv, env := asRole("hold", dir, w)
	holder, err := startScraper("hold", argv, env)
	if err != nil {
		return err
	}
	defer holder.stop()
	argv, env = asRole(ours, dir, w)
	s, err := startScraper(ours, argv, env)
	if err != nil {
		return err
	}
	defer s.stop()
	took, err := s.scrape(12)
	if err != nil {
		return err
	}
	c.Full = median(took.Wall[1:])
	return nil
}

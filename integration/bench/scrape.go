package main

import (
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// result is what one peer's scrapes of some work took.
type result struct {
	Peer   string
	Work   work
	Median time.Duration
	CPU    time.Duration // of the processor, in the mean
	Memory int64         // bytes of the scraper, without mapped files
	Store  int64         // bytes of files
	Bytes  int           // of one exposition
	Absent string        // why there is nothing
}

// unknown is why there is nothing of a peer that has no such format or type. The table leaves it out.
const unknown = "unknown"

// pace is how long the peers of one row of the table are measured.
type pace struct {
	budget      time.Duration // of a peer
	least, most int           // rounds
}

// bench measures one row: all peers by turns, after each was found to expose the same sums.
func (pc pace) bench(peers []peer, w work, base string) ([]result, error) {
	type runner struct {
		*scraper
		at     int
		each   int // scrapes in a round
		wall   []int64
		cpu    int64
		scrape int
	}
	results := make([]result, len(peers))
	var runners []*runner
	defer func() {
		for _, r := range runners {
			r.stop()
		}
	}()
	var want map[string]float64
	rounds := pc.most
	for i := range peers {
		p := &peers[i]
		results[i] = result{Peer: p.name, Work: w, Absent: p.missing}
		if p.missing == "" && !p.fits(w) {
			results[i].Absent = "too much for it"
		}
		if !p.knows(w) {
			results[i].Absent = unknown
		}
		if results[i].Absent != "" {
			continue
		}
		dir := filepath.Join(base, p.role+"."+fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if p.name == ours {
			argv, env := asRole("hold", dir, w)
			holder, err := startScraper("hold", argv, env)
			if err != nil {
				return nil, err
			}
			defer holder.stop()
		}
		s, err := p.start(dir, w)
		if err != nil {
			return nil, err
		}
		r := &runner{scraper: s, at: i}
		runners = append(runners, r)
		got, err := s.samples(base)
		if err != nil {
			return nil, err
		}
		if want == nil {
			want = got
		}
		if err := sameSums(w, want, got); err != nil {
			return nil, fmt.Errorf("%v: the sums of %s are not those of %s: %w", w, p.name, ours, err)
		}
		if results[i].Store, err = diskUsage(dir); err != nil {
			return nil, err
		}
		first, err := s.scrape(1)
		if err != nil {
			return nil, err
		}
		took := time.Duration(first.Wall[0])
		r.each = int(min(max(20*time.Millisecond/max(took, 1), 1), 10))
		rounds = min(rounds, max(int(pc.budget/max(took*time.Duration(r.each), 1)), pc.least))
	}
	for range rounds {
		for _, r := range runners {
			c, err := r.scraper.scrape(r.each)
			if err != nil {
				return nil, err
			}
			r.wall, r.cpu, r.scrape = append(r.wall, c.Wall...), r.cpu+c.CPU, r.scrape+r.each
			results[r.at].Bytes = c.Bytes
		}
	}
	for _, r := range runners {
		to := &results[r.at]
		slices.Sort(r.wall)
		to.Median = time.Duration(r.wall[len(r.wall)/2])
		to.CPU = time.Duration(r.cpu / int64(r.scrape))
		to.Memory = r.memory()
	}
	log.Printf("%v: %d rounds", w, rounds)
	return results, nil
}

// diskUsage returns the bytes that the files of a directory take.
func diskUsage(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return total, err
}

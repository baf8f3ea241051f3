package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/shmstore"
)

func addInspect(app *kingpin.Application) (string, command) {
	cmd := app.Command("inspect", "Show each file of a store: whose it is, what it holds, and what is wrong with it.")
	var store storeFlags
	store.addControlled(cmd)
	asJSON := cmd.Flag("json", "Print JSON.").Bool()
	return cmd.FullCommand(), func() error {
		path, _, err := store.find("inspect")
		if err != nil {
			return err
		}
		v, err := inspect(path)
		if err != nil {
			return err
		}
		write := v.writeText
		if *asJSON {
			write = v.writeJSON
		}
		if err := write(os.Stdout); err != nil {
			return err
		}
		return v.broken()
	}
}

// storeView is what inspect prints. Its JSON is for programs, and only grows.
type storeView struct {
	Store  string     `json:"store"`
	Master int        `json:"master"` // pid of the process that supervises the store, 0 for none
	Files  []fileView `json:"files"`
	// Archive is what the fold took over from dead processes; nil before the first fold.
	Archive *archiveView `json:"archive,omitempty"`
}

type archiveView struct {
	Generation uint64       `json:"generation"` // how often it was written
	Series     int          `json:"series"`
	Families   []familyView `json:"families"`
}

type fileView struct {
	Name     string       `json:"name"`
	PID      int          `json:"pid"`
	Slot     int          `json:"slot"` // -1 for none
	Live     bool         `json:"live"`
	Ready    bool         `json:"ready"`
	Drained  bool         `json:"drained"`
	Started  time.Time    `json:"started"`
	Series   int          `json:"series"`
	Overflow int          `json:"overflow"` // series that found no space
	Used     int64        `json:"bytes_used"`
	Reserved int64        `json:"bytes_reserved"`
	Families []familyView `json:"families"`
	Error    string       `json:"error,omitempty"`
}

type familyView struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Mode   string   `json:"mode,omitempty"` // of a gauge
	Labels []string `json:"labels,omitempty"`
	Series int      `json:"series"`
}

// inspect reads a store without changing it.
func inspect(path string) (*storeView, error) {
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{})
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	v := &storeView{Store: dir.Path(), Files: []fileView{}}
	if v.Master, _, err = dir.Master(); err != nil {
		return nil, err
	}
	view := dir.View()
	if err := view.Update(); err != nil {
		return nil, err
	}
	for _, r := range view.Readers() {
		v.Files = append(v.Files, inspectFile(r))
	}
	for name, err := range view.Broken() {
		v.Files = append(v.Files, fileView{Name: name, Slot: -1, Families: []familyView{}, Error: err.Error()})
	}
	if a := view.Archive(); a != nil {
		v.Archive = inspectArchive(a)
	}
	slices.SortFunc(v.Files, func(a, b fileView) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), a.Started.Compare(b.Started), cmp.Compare(a.Name, b.Name))
	})
	return v, nil
}

// inspectFile reads one file as far as it can be read.
func inspectFile(r *shmstore.Reader) fileView {
	info := r.Info()
	f := fileView{Name: info.Name, PID: info.PID, Slot: info.Slot, Started: info.Started, Families: []familyView{}}
	var err error
	f.Live, err = r.Alive()
	f.note(err)
	state, err := r.State()
	f.note(err)
	f.Ready, f.Drained, f.Overflow = state.Ready, state.Drained, state.Overflow
	f.Used, f.Reserved = state.Used, state.Reserved
	f.note(r.Refresh())
	for _, family := range r.Families() {
		f.Families = append(f.Families, newFamilyView(family))
	}
	for _, s := range r.Series() {
		if !s.Hidden && !s.Free {
			f.Families[s.Family].Series++
			f.Series++
		}
	}
	return f
}

func newFamilyView(f shmstore.Family) familyView {
	return familyView{Name: f.Name, Type: f.Type.String(), Mode: f.Mode.String(), Labels: f.Labels}
}

func inspectArchive(a *shmstore.Archive) *archiveView {
	v := &archiveView{Generation: a.Generation, Families: []familyView{}}
	for _, f := range a.Families {
		family := newFamilyView(f.Family)
		family.Series = f.Len()
		v.Families = append(v.Families, family)
		v.Series += family.Series
	}
	return v
}

// note keeps the first thing that was wrong.
func (f *fileView) note(err error) {
	if err != nil && f.Error == "" {
		f.Error = err.Error()
	}
}

// state is the file's life in a few words.
func (f *fileView) state() string {
	switch {
	case f.Error != "":
		return "broken"
	case !f.Live:
		return "dead"
	case f.Drained:
		return "live, drained"
	case !f.Ready:
		return "live, not ready"
	}
	return "live"
}

// broken is nil when all files are whole.
func (v *storeView) broken() error {
	n := 0
	for _, f := range v.Files {
		if f.Error != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d files cannot be read; scrapes leave them out", n, len(v.Files))
}

func (v *storeView) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (v *storeView) writeText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	master := "no master"
	if v.Master != 0 {
		master = "master " + strconv.Itoa(v.Master)
	}
	fmt.Fprintf(w, "%s (%s)\n\n", v.Store, master)
	fmt.Fprintln(w, "SLOT\tPID\tSTATE\tSERIES\tUSED\tRESERVED\tFILE")
	for _, f := range v.Files {
		slot := "-"
		if f.Slot >= 0 {
			slot = strconv.Itoa(f.Slot)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\t%s\n", slot, f.PID, f.state(), f.Series, size(f.Used), size(f.Reserved),
			f.Name)
	}
	for _, f := range v.Files {
		fmt.Fprintf(w, "\n%s\n", f.Name)
		if f.Error != "" {
			fmt.Fprintf(w, "  broken: %s\n", f.Error)
		}
		if f.Overflow > 0 {
			fmt.Fprintf(w, "  %d more series found no space and live in the process's memory\n", f.Overflow)
		}
		writeFamilies(w, f.Families)
	}
	if v.Archive != nil {
		fmt.Fprintf(w, "\narchive of the dead, generation %d, %d series\n", v.Archive.Generation, v.Archive.Series)
		writeFamilies(w, v.Archive.Families)
	}
	return w.Flush()
}

func writeFamilies(w io.Writer, families []familyView) {
	for _, f := range families {
		labels := ""
		if len(f.Labels) > 0 {
			labels = "{" + strings.Join(f.Labels, ",") + "}"
		}
		fmt.Fprintf(w, "  %s%s\t%s\t%d series\n", f.Name, labels, strings.TrimSpace(f.Type+" "+f.Mode), f.Series)
	}
}

// size is a number of bytes as people read it.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

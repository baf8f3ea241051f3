package aggregate

import (
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/onescrape/onescrape/shmstore"
)

// The tests write stores as workers do: from processes of their own where one has to die, otherwise from this one.

const childVariable = "AGGREGATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// action is one thing that a process does with its file.
type action struct {
	Do     string // add, set, observe, exemplar, make, fill, delete, release, word, ready, spin, another
	Family shmstore.Family
	Values []string
	V      float64
	Word   int
	At     uint64
	Trace  string
}

// process applies actions to a file.
type process struct {
	w      *shmstore.Writer
	series map[string]*shmstore.Series
	gone   []*shmstore.Series

	octaves map[*shmstore.Series]map[uint64][]uint64
}

func newProcess(dir string, slot int) (*process, error) {
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	if err != nil {
		return nil, err
	}
	w, err := d.Create(shmstore.WriterOptions{Slot: slot})
	return &process{w: w, series: map[string]*shmstore.Series{}}, err
}

func (p *process) get(s action) (*shmstore.Series, error) {
	key := s.Family.Key() + "\xff" + strings.Join(s.Values, "\xff")
	if have := p.series[key]; have != nil {
		return have, nil
	}
	id, err := p.w.AddFamily(s.Family)
	if err != nil {
		return nil, err
	}
	series, err := p.w.AddSeries(id, s.Values)
	if err == nil {
		p.series[key] = series
	}
	return series, err
}

func addFloat(cell *uint64, v float64) {
	for {
		old := atomic.LoadUint64(cell)
		if atomic.CompareAndSwapUint64(cell, old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (p *process) apply(s action) error {
	if s.Do == "ready" {
		p.w.SetReady()
		return nil
	}
	if s.Do == "fill" {
		return p.fill(s.V)
	}
	if s.Do == "release" {
		for _, series := range p.gone {
			p.w.Released(series)
		}
		p.gone = nil
		return nil
	}
	series, err := p.get(s)
	if err != nil {
		return err
	}
	c := series.Cells
	switch s.Do {
	case "make":
	case "add":
		if s.V == math.Trunc(s.V) && s.V < 1<<53 {
			atomic.AddUint64(&c[shmstore.CounterInteger], uint64(s.V))
		} else {
			addFloat(&c[shmstore.CounterFloat], s.V)
		}
	case "set":
		if s.Family.Words() == shmstore.TimedWords {
			if s.At == 0 {
				s.At = shmstore.Monotonic()
			}
			shmstore.StoreTimed(c, s.V, s.At)
		} else {
			atomic.StoreUint64(&c[0], shmstore.GaugeWord(s.V))
		}
	case "observe":
		if s.Family.Type == shmstore.SummaryType {
			addFloat(&c[shmstore.SummarySum], s.V)
			atomic.AddUint64(&c[shmstore.SummaryCount], 1)
			return p.observeWindow(s.Family.Window, series, s.V, s.At)
		}
		i := slices.IndexFunc(s.Family.Bounds, func(b float64) bool { return s.V <= b })
		if i < 0 {
			i = len(s.Family.Bounds)
		}
		addFloat(&c[shmstore.HistogramSum], s.V)
		if s.Family.Native != nil {
			if observeNative(&s.Family, c, s.V); i == len(s.Family.Bounds) {
				return nil
			}
		}
		atomic.AddUint64(&c[shmstore.HistogramBuckets+i], 1)
	case "exemplar": // of the value V in its bucket, at the time At
		e := shmstore.Exemplar{Value: s.V, At: int64(s.At), Labels: shmstore.AppendExemplarLabel(nil, "trace_id", s.Trace)}
		_, err := p.w.StoreExemplar(series, s.Family.ExemplarOf(s.V), &e)
		return err
	case "word":
		atomic.StoreUint64(&c[s.Word], math.Float64bits(s.V))
	case "delete":
		p.w.Delete(series)
		p.gone = append(p.gone, series)
		for key, other := range p.series {
			if other == series {
				delete(p.series, key)
			}
		}
	default:
		return fmt.Errorf("unknown step %q", s.Do)
	}
	return nil
}

// serveChild is a process that applies the actions that come on its standard input, and says so.
func serveChild(dir string) error {
	slot := 0
	fmt.Sscan(os.Getenv(childVariable+"_SLOT"), &slot)
	p, err := newProcess(dir, slot)
	if err != nil {
		return err
	}
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	if err := out.Encode(p.w.Name()); err != nil {
		return err
	}
	for {
		var s action
		if err := in.Decode(&s); err != nil {
			return nil
		}
		if s.Do == "another" {
			// File of one that dies with this process; the next actions are of that.
			if p, err = newProcess(dir, slot); err != nil {
				return err
			}
		} else if s.Do == "spin" {
			// Until it is killed; nobody waits for it.
			go func() {
				for {
					if err := p.apply(action{Do: "add", Family: s.Family, Values: s.Values, V: 1}); err != nil {
						return
					}
				}
			}()
		} else if err := p.apply(s); err != nil {
			return err
		}
		if err := out.Encode("done"); err != nil {
			return err
		}
	}
}

// child is a process of its own.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	name string
	in   *gob.Encoder
	out  *gob.Decoder
	dead bool
}

func startChild(t testing.TB, dir string, slot int) *child {
	t.Helper()
	return startChildBy(t, dir, slot)
}

// startChildBy starts a process by way of a command, which goes before its own.
func startChildBy(t testing.TB, dir string, slot int, command ...string) *child {
	t.Helper()
	command = append(command, os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childVariable+"="+dir, fmt.Sprintf("%s_SLOT=%d", childVariable, slot))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{t: t, cmd: cmd, in: gob.NewEncoder(in), out: gob.NewDecoder(out)}
	t.Cleanup(c.kill)
	require.NoError(t, c.out.Decode(&c.name))
	return c
}

func (c *child) do(actions ...action) {
	c.t.Helper()
	for _, s := range actions {
		require.NoError(c.t, c.in.Encode(s))
		var done string
		require.NoError(c.t, c.out.Decode(&done))
	}
}

// kill kills the process and waits for its end.
func (c *child) kill() {
	if !c.dead {
		c.dead = true
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// killSeen kills the process and waits until its lock has gone, which may be a little later.
func (c *child) killSeen(dir string) {
	c.t.Helper()
	c.kill()
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(c.t, err)
	defer d.Close()
	r, err := d.Open(c.name)
	require.NoError(c.t, err)
	defer r.Close()
	require.Eventually(c.t, func() bool {
		alive, err := r.Alive()
		return err == nil && !alive
	}, 10*time.Second, time.Millisecond)
}

// newDir makes an empty store, in memory where there is some.
func newDir(t testing.TB) string {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "onescrape-test-")
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "store")
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{Create: true})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	return dir
}

// local is a process that is this one, and so lives until the tests end.
type local struct {
	t testing.TB
	*process
}

func startLocal(t testing.TB, dir string, slot int) *local {
	t.Helper()
	p, err := newProcess(dir, slot)
	require.NoError(t, err)
	return &local{t, p}
}

func (l *local) do(actions ...action) {
	l.t.Helper()
	for _, s := range actions {
		require.NoError(l.t, l.apply(s))
	}
}

type doer interface{ do(...action) }

var ready = action{Do: "ready"}

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// gatherAll returns what a Gatherer returns, by name.
func gatherAll(t testing.TB, g prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	_, err = prometheus.Gatherers{prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return families,
			nil
	})}.Gather()
	require.NoError(t, err, "client_golang finds no duplicate and no collision in it")
	all := map[string]*dto.MetricFamily{}
	for i, mf := range families {
		require.NotContains(t, all, mf.GetName())
		require.NotEmpty(t, mf.Metric)
		require.True(t, i == 0 || families[i-1].GetName() < mf.GetName(), "families are sorted")
		all[mf.GetName()] = mf
	}
	return all
}

// text returns the samples of the families of these names, or of all but the store's own, without comments.
func text(t testing.TB, s *Store, names ...string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, s.WriteText(&b, names...))
	var lines []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") && (len(names) > 0 || !strings.HasPrefix(line, "onescrape_")) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// users returns the families without the store's own, without created times, as text that compares.
func users(t testing.TB, g prometheus.Gatherer) []string {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	var all []string
	for _, mf := range families {
		if slices.Contains(ownNames, mf.GetName()) {
			continue
		}
		for _, m := range mf.Metric {
			if m.Counter != nil {
				m.Counter.CreatedTimestamp = nil
			}
			if m.Histogram != nil {
				m.Histogram.CreatedTimestamp = nil
			}
			if m.Summary != nil {
				m.Summary.CreatedTimestamp = nil
			}
		}
		_, err := proto.Marshal(mf)
		require.NoError(t, err, "it can be exposed as protobuf")
		b, err := json.Marshal(plain(mf))
		require.NoError(t, err)
		all = append(all, string(b))
	}
	return all
}

// plain is a family in types that encoding/json takes, NaN and infinities too, in a form that is always the same. The text of
// a protobuf message is none: its spaces are others in another build.
func plain(mf *dto.MetricFamily) any {
	type metric struct {
		Labels  [][2]string
		Value   string
		Count   uint64
		Buckets [][2]string
		Traces  []string
		Native  string
	}
	metrics := make([]metric, len(mf.Metric))
	float := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	pairs := func(of []*dto.LabelPair) (all [][2]string) {
		for _, l := range of {
			all = append(all, [2]string{l.GetName(), l.GetValue()})
		}
		return all
	}
	trace := func(le string, e *dto.Exemplar) []string {
		if e == nil {
			return nil
		}
		return []string{fmt.Sprint(le, pairs(e.Label), float(e.GetValue()), e.Timestamp.AsTime())}
	}
	for i, m := range mf.Metric {
		o := &metrics[i]
		o.Labels = pairs(m.Label)
		switch {
		case m.Counter != nil:
			o.Value, o.Traces = float(m.Counter.GetValue()), trace("", m.Counter.Exemplar)
		case m.Gauge != nil:
			o.Value = float(m.Gauge.GetValue())
		case m.Untyped != nil:
			o.Value = float(m.Untyped.GetValue())
		case m.Summary != nil:
			o.Value, o.Count = float(m.Summary.GetSampleSum()), m.Summary.GetSampleCount()
			for _, q := range m.Summary.Quantile {
				o.Buckets = append(o.Buckets, [2]string{float(q.GetQuantile()), float(q.GetValue())})
			}
		case m.Histogram != nil:
			o.Value, o.Count = float(m.Histogram.GetSampleSum()), m.Histogram.GetSampleCount()
			for _, b := range m.Histogram.Bucket {
				o.Buckets = append(o.Buckets, [2]string{float(b.GetUpperBound()), fmt.Sprint(b.GetCumulativeCount())})
				o.Traces = append(o.Traces, trace(float(b.GetUpperBound()), b.Exemplar)...)
			}
			o.Native = nativeText(m.Histogram)
		}
	}
	return []any{mf.GetName(), mf.GetHelp(), mf.GetUnit(), mf.GetType().String(), metrics}
}

// created returns the created times of the first metric of each family that has one.
func created(families map[string]*dto.MetricFamily) map[string]int64 {
	times := map[string]int64{}
	for name, mf := range families {
		m := mf.Metric[0]
		for _, ts := range []interface{ AsTime() time.Time }{
			m.GetCounter().GetCreatedTimestamp(), m.GetHistogram().GetCreatedTimestamp(),
			m.GetSummary().GetCreatedTimestamp(),
		} {
			if at := ts.AsTime(); at.UnixNano() != 0 {
				times[name] = at.UnixNano()
			}
		}
	}
	return times
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) about(words string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, words) {
			lines = append(lines, line)
		}
	}
	return lines
}

// fileName is a name that a process's file could have.
func fileName(n int) string { return fmt.Sprintf("%d-%016x.shm", n, n) }

// long skips a test that takes seconds in a short run.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}

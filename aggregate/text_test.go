package aggregate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// expositions are all ways to write text, with what expfmt calls them.
func expositions(each func(x exposition, format expfmt.Format, options []expfmt.EncoderOption)) {
	for as, format := range map[syntax]expfmt.Format{text004: expfmt.FmtText, openMetrics: expfmt.FmtOpenMetrics_1_0_0} {
		for _, escaping := range []model.EscapingScheme{model.NoEscaping, model.UnderscoreEscaping, model.DotsEscaping,
			model.ValueEncodingEscaping} {
			for _, created := range []bool{false, true} {
				var options []expfmt.EncoderOption
				if created {
					options = append(options, expfmt.WithCreatedLines())
				}
				each(exposition{as, escaping, created}, format.WithEscapingScheme(escaping), options)
			}
		}
	}
}

// requireText requires that the text of a plan is what expfmt writes of the same families.
func requireText(t testing.TB, p *plan, others, families []*dto.MetricFamily) {
	t.Helper()
	expositions(func(x exposition, format expfmt.Format, options []expfmt.EncoderOption) {
		var want bytes.Buffer
		encoder := expfmt.NewEncoder(&want, format, options...)
		for _, mf := range families {
			require.NoError(t, encoder.Encode(mf))
		}
		require.NoError(t, encoder.(expfmt.Closer).Close())
		got, err := x.appendAll([]byte("before\n"), p, namesAmong(nil), others)
		require.NoError(t, err)
		require.Equal(t, "before\n"+want.String(), string(got), format)
	})
}

// requireStoreText does so for a store, as of now.
func requireStoreText(t testing.TB, s *Store) {
	t.Helper()
	require.NoError(t, s.fresh())
	s.mu.RLock()
	defer s.mu.RUnlock()
	requireText(t, &s.plan, s.selfMetrics.families(), s.collect(namesAmong(nil)))
}

// dice makes anything of bytes, and when these are used up always the same.
type dice struct{ b []byte }

func (d *dice) n(below int) int {
	if len(d.b) == 0 {
		return 0
	}
	v := int(d.b[0])
	d.b = d.b[1:]
	return v % below
}

func (d *dice) word() uint64 {
	var b [8]byte
	n := copy(b[:], d.b)
	d.b = d.b[n:]
	return binary.LittleEndian.Uint64(b[:])
}

func (d *dice) float() float64 {
	switch d.n(4) {
	case 0:
		return oddNumbers[d.n(len(oddNumbers))] * float64(1-2*d.n(2))
	case 1:
		return float64(d.n(256))
	default:
		return math.Float64frombits(d.word())
	}
}

var oddTexts = []string{"", "a", "b_total", "c:d", "9", "ü.é", `q"uo\te`, "new\nline", "__", "a.b_c", "\u2028", " ", `\n`,
	"{}", "_total", "le", "quantile", "\x00", strings.Repeat("long", 70)}

func (d *dice) text() string {
	if d.n(4) > 0 {
		return oddTexts[d.n(len(oddTexts))]
	}
	n := min(d.n(12), len(d.b))
	s := strings.ToValidUTF8(string(d.b[:n]), "\uFFFD")
	d.b = d.b[n:]
	return s
}

// texts are up to n different ones, sorted.
func (d *dice) texts(n int) []string {
	var all []string
	for range d.n(n + 1) {
		all = append(all, d.text())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// count is one of those that there are, and of those that only a broken file can have.
func (d *dice) count() uint64 {
	if d.n(2) == 0 {
		return uint64(d.n(256))
	}
	return d.word()
}

// thrownFamily is a family of any kind after a pass.
func thrownFamily(d *dice, name string) *family {
	def := shmstore.Family{Name: name, Help: d.text(), Unit: d.text(), Type: shmstore.Type(1 + d.n(5)), Labels: d.texts(3)}
	numbers := func() (all []float64) {
		for range d.n(5) {
			if v := d.float(); math.Abs(v) <= math.MaxFloat64 {
				all = append(all, v)
			}
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	switch def.Type {
	case shmstore.GaugeType, shmstore.UntypedType:
		def.Mode = shmstore.GaugeMode(1 + d.n(int(shmstore.LiveMostRecent)))
	case shmstore.HistogramType:
		def.Bounds = numbers()
		if d.n(3) == 0 {
			def.Native = &shmstore.Native{Buckets: 20}
		}
	case shmstore.SummaryType:
		if d.n(2) == 0 {
			def.Window = &quantile.Window{Objectives: numbers(), Age: time.Minute, Slices: 2, Resolution: 8}
		}
	}
	f := newFamily(name, oddTexts[1+d.n(len(oddTexts)-1)])
	from := &contribution{origin: &origin.Origin{Alive: true}, def: def, family: f}
	f.contributions = []*contribution{from}
	f.chooseRule()
	for range 1 + d.n(4) {
		values := make([]string, len(def.Labels))
		for i := range values {
			values[i] = d.text()
		}
		n := f.take(from, &shmstore.SeriesInfo{Values: values, Created: int64(d.word() >> d.n(64))},
			identity(nil, def.Labels, values), 0)
		if f.presence[n] = liveShown | counted; d.n(8) == 0 {
			f.presence[n] = liveHidden
		}
		if len(f.values) > 0 {
			f.values[n] = d.float()
		}
		if len(f.sums) > 0 {
			f.sums[n].Add(d.float())
			width := len(f.buckets) / len(f.rows)
			for i := range f.buckets[int(n)*width:][:width] {
				f.buckets[int(n)*width+i] = d.count()
			}
		}
		if len(f.natives) > 0 {
			f.natives[n].AddUpTo(d.float(), d.count())
		}
		for range d.n(3) {
			if def.ExemplarSlots() > 0 {
				e := shmstore.Exemplar{Value: d.float(), At: int64(d.word())}
				if label := d.text(); label != "" {
					e.Labels = shmstore.AppendExemplarLabel(nil, label, d.text())
				}
				f.offerExemplar(n, &e)
			}
		}
		if def.Type == shmstore.SummaryType && def.Window == nil && d.n(2) == 0 {
			if f.lines.of == nil {
				f.lines = quantileLines{of: newFamily(name+linesSuffix, ""), rows: map[string][]quantileLine{}}
			}
			for range d.n(3) {
				line, key := quantileLine{d.float(), int32(len(f.lines.of.values))}, f.rows[n].key
				f.lines.rows[key] = append(f.lines.rows[key], line)
				f.lines.of.values = append(f.lines.of.values, d.float())
				f.lines.of.presence = append(f.lines.of.presence, presence(d.n(3)))
			}
		}
	}
	if def.Window != nil {
		for range len(f.rows) * len(def.Window.Objectives) {
			f.computed = append(f.computed, d.float())
		}
	}
	f.arrange()
	f.finishExemplars()
	f.makeTemplates()
	return f
}

// checkThrown throws a few families, at least one of whose rows each are visible, and others that are not the store's.
func checkThrown(t *testing.T, b []byte) {
	d := &dice{b}
	var p plan
	var others, families []*dto.MetricFamily
	for i, name := range d.texts(4) {
		if name == "" {
			continue
		}
		f := thrownFamily(d, name)
		if !slices.ContainsFunc(f.order, f.visible) {
			continue
		}
		families = append(families, f.output())
		if i%4 == 3 {
			others = append(others, families[len(families)-1])
		} else {
			p.exposed = append(p.exposed, f)
		}
	}
	requireText(t, &p, others, families)
}

func TestTextIsWhatExpfmtWrites(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range n {
		b := make([]byte, r.IntN(600))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if !t.Run("", func(t *testing.T) { checkThrown(t, b) }) {
			t.Logf("input %d", i)
			return
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte{})
	r := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(checkThrown)
}

// One of each kind through a whole store, with exemplars, quantiles of both sources, and two workers of which one has died.
func TestTextOfAStore(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	window := summaryFamily("windowed", "l")
	window.Window = &quantile.Window{Objectives: []float64{.5, .99}, Age: time.Hour, Slices: 5, Resolution: 64}
	counter := counterFamily("c_total", "l")
	counter.Unit = `un"it`
	histogram, native := histogramFamily("h", []float64{-1, .1, 1, 1e9}, "l"), nativeFamily("native", 3, 0, "l")
	both := bothFamily("both", 3, []float64{1, 2}, "l")
	fill := func(p doer) {
		for _, l := range oddTexts {
			values := []string{l}
			for i, v := range []float64{1, .5, 1e21, 5e-324} {
				p.do(action{Do: "add", Family: counter, Values: values, V: v},
					action{Do: "exemplar", Family: counter, Values: values, V: v, At: uint64(1e18 + i), Trace: "ü\""},
					action{Do: "exemplar", Family: histogram, Values: values, V: v, At: uint64(2e18 + i), Trace: "t"},
					action{Do: "set", Family: gaugeFamily("ü.all", shmstore.All, "l"), Values: values, V: v},
					action{Do: "set", Family: gaugeFamily("recent", shmstore.MostRecent, "ü.l"), Values: values, V: -v},
					action{Do: "set", Family: linesFamily("exported", "l"), Values: []string{l, fmt.Sprint(v / 2)}, V: v})
				for _, f := range []shmstore.Family{histogram, both, native, summaryFamily("exported", "l"), window} {
					p.do(action{Do: "observe", Family: f, Values: values, V: v, At: shmstore.Monotonic()})
				}
			}
			for mode, v := range map[shmstore.GaugeMode]float64{shmstore.Sum: math.NaN(), shmstore.Max: math.Inf(1),
				shmstore.Min: math.Inf(-1)} {
				p.do(action{Do: "set", Family: gaugeFamily(mode.String(), mode, "l"), Values: values, V: v})
			}
		}
	}
	dead := startChild(t, dir, 0)
	fill(dead)
	fill(startLocal(t, dir, 1))
	requireStoreText(t, s)
	dead.killSeen(dir)
	requireStoreText(t, s)
	mustFold(t, s)
	requireStoreText(t, s)
	for _, name := range []string{"c_total", "ü.all", "recent", "exported", "windowed", "h", "both", "native", "sum"} {
		var b strings.Builder
		require.NoError(t, s.WriteText(&b, name, "nobody"))
		require.Contains(t, b.String(), "# TYPE ", name)
		require.True(t, utf8.ValidString(b.String()))
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteTextReturnsErrors(t *testing.T) {
	s := openStore(t, newDir(t), Options{})
	require.ErrorIs(t, s.WriteText(failingWriter{}), io.ErrClosedPipe)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.WriteText(io.Discard), errClosed)
}

// What stands beside the store's metrics is in its place in the answer; where it could be taken for some of the store's,
// or has none, the answer is as prometheus.Gatherers has it.
func TestHandlerAdditional(t *testing.T) {
	dir := newDir(t)
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("b_total"), V: 2},
		action{Do: "observe", Family: histogramFamily("h", []float64{1}), V: 1})
	s := openStore(t, dir, Options{})
	beside := func(names ...string) prometheus.Gatherer {
		r := prometheus.NewRegistry()
		for _, name := range names {
			r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: "H."}, func() float64 { return 1 }))
		}
		return r
	}
	for _, names := range [][]string{{}, {"a", "c", "z"}, {"a", "b_total"}, {"h_count"}, {"h_bucket"}, {"h_other"}, {nameFolds}} {
		g := beside(names...)
		w := get(s.Handler(HandlerOptions{Additional: g}), "")
		var want strings.Builder
		families, _ := prometheus.Gatherers{s, g}.Gather()
		for _, mf := range families {
			_, err := expfmt.MetricFamilyToText(&want, mf)
			require.NoError(t, err)
		}
		require.Equal(t, 200, w.Code)
		require.Equal(t, want.String(), w.Body.String(), "%v", names)
	}
	broken := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("broken") })
	w := get(s.Handler(HandlerOptions{Additional: broken}), "")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "b_total 2\n")
	panics := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { panic("broken") })
	h := s.Handler(HandlerOptions{Additional: panics, MaxRequestsInFlight: 1})
	for range 3 {
		require.PanicsWithValue(t, "broken", func() { get(h, "") }, "the server that has the request recovers, and it is over")
	}
}

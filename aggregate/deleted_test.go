package aggregate

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// Offset of the number of releases in the header of a file; FORMAT.md draws it.
const headerReleases = 216

// A process that releases while its file is read shows a later release before an earlier one. What is taken up to the
// later one would then be lost with the earlier one's cells.
func TestFoldTakesNoReleaseBeforeAllThatWentBeforeIt(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	for i, l := range []string{"x", "y"} {
		a.do(action{Do: "add", Family: family, Values: []string{l}, V: float64(i + 1)})
		b.do(action{Do: "make", Family: family, Values: []string{l}})
	}
	for _, l := range []string{"y", "x"} {
		a.do(action{Do: "delete", Family: family, Values: []string{l}})
	}
	a.do(action{Do: "release"})
	path := filepath.Join(dir, a.w.Name())
	require.NoError(t, os.Chmod(path, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	count := func(n uint64) {
		_, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, n), headerReleases)
		require.NoError(t, err)
	}
	taken := func() (n uint64) {
		d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
		require.NoError(t, err)
		defer d.Close()
		v := d.View()
		defer v.Close()
		require.NoError(t, v.Update())
		if v.Archive() != nil {
			for _, n = range v.Archive().ArchivedThrough {
			}
		}
		return n
	}
	const want = "c_total{l=\"x\"} 1\nc_total{l=\"y\"} 2\n"
	for n := range uint64(3) {
		count(n)
		mustFold(t, s)
		assert.Equal(t, n, taken())
		assert.Equal(t, want, text(t, s))
	}
}

// What is deleted is not forgotten in part: as long as a handle can add to the part of one process, the others' parts wait
// for it, because a series that is made again shows all that is left.
func TestFoldForgetsNothingOfASeriesThatIsStillHeld(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	add := func(v float64) action { return action{Do: "add", Family: family, Values: []string{"x"}, V: v} }
	remove := action{Do: "delete", Family: family, Values: []string{"x"}}
	leave(t, dir, 0, add(100))
	mustFold(t, s)
	held, released, next := startLocal(t, dir, 0), startLocal(t, dir, 1), startLocal(t, dir, 2)
	held.do(add(50), remove)
	released.do(add(7), remove, action{Do: "release"})
	leave(t, dir, 3, add(1000), remove)
	assert.Empty(t, text(t, s))
	mustFold(t, s)
	assert.Empty(t, text(t, s))
	next.do(add(5))
	assert.Equal(t, "c_total{l=\"x\"} 1162\n", text(t, s))
	next.do(remove, action{Do: "release"})
	mustFold(t, s)
	held.do(action{Do: "release"})
	mustFold(t, s)
	assert.Empty(t, text(t, s))
	next.do(add(5))
	assert.Equal(t, "c_total{l=\"x\"} 5\n", text(t, s))
}

// What the archive has taken of a process counts as the archive's, whether or not the process has used its cells again.
func TestFoldChangesNothingWhenTheLastThatShowsASeriesDies(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	add := func(v float64) action { return action{Do: "add", Family: family, Values: []string{"x"}, V: v} }
	shows, deletes := startChild(t, dir, 0), startChild(t, dir, 1)
	shows.do(add(7))
	deletes.do(add(100), action{Do: "delete", Family: family, Values: []string{"x"}}, action{Do: "release"})
	const want = "c_total{l=\"x\"} 107\n"
	for _, die := range []func(){func() {}, func() { shows.killSeen(dir) }, func() { deletes.killSeen(dir) }} {
		die()
		assert.Equal(t, want, text(t, s))
		mustFold(t, s)
		assert.Equal(t, want, text(t, s))
	}
}

func TestSeriesThatStartsAnewHasANewCreatedTimeWhoeverLooked(t *testing.T) {
	dir := newDir(t)
	s, folding := openStore(t, dir, Options{}), openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	add := action{Do: "add", Family: family, Values: []string{"x"}, V: 10}
	remove := action{Do: "delete", Family: family, Values: []string{"x"}}
	all := []*local{startLocal(t, dir, 0), startLocal(t, dir, 1)}
	for _, p := range all {
		p.do(add)
	}
	first := created(gatherAll(t, s))["c_total"]
	for _, p := range all {
		p.do(remove, action{Do: "release"})
	}
	mustFold(t, folding)
	for _, p := range all {
		p.do(add)
	}
	second := created(gatherAll(t, s))["c_total"]
	assert.Greater(t, second, first)
	assert.Equal(t, created(gatherAll(t, openStore(t, dir, Options{})))["c_total"], second)
}

// Whether the dead show a series is decided over all of them, however many there are.
func TestFoldOfACrowdOfTheDeadForgetsNothingThatOneOfThemShows(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	family := counterFamily("c_total", "l")
	with := func(do string, n int) action {
		return action{Do: do, Family: family, Values: []string{fmt.Sprintf("%03d", n)}, V: 1}
	}
	// Each has deleted what the next one shows, so that no two halves of them may be folded one after the other.
	const files = 300
	p := startChild(t, dir, 0)
	var want strings.Builder
	for n := range files {
		if n > 0 {
			p.do(action{Do: "another"})
		}
		p.do(with("add", n), with("add", (n+1)%files), with("delete", n), action{Do: "release"})
		fmt.Fprintf(&want, "c_total{l=\"%03d\"} 2\n", n)
	}
	p.killSeen(dir)
	require.Equal(t, want.String(), text(t, s))
	for _, most := range []int{files, 0} {
		folded, err := s.Fold(t.Context())
		require.NoError(t, err)
		assert.Equal(t, most, folded)
		assert.Equal(t, want.String(), text(t, s))
	}
	last := startLocal(t, dir, 1)
	for n := range files {
		last.do(with("add", n), with("delete", n))
	}
	last.do(action{Do: "release"})
	mustFold(t, s)
	assert.Empty(t, text(t, s))
}

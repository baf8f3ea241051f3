package aggregate

import (
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writtenBytes returns how many bytes this process has ever written.
func writtenBytes(t testing.TB) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	require.NoError(t, err)
	var read uint64
	_, err = fmt.Sscanf(string(b), "rchar: %d\nwchar: %d", &read, &n)
	require.NoError(t, err)
	return n
}

// allocatedObjects returns how many objects were ever allocated.
func allocatedObjects() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// What a fold, and the scrape after it, costs does not depend on how much is archived that it does not change.
func TestFoldCostsWhatItChanges(t *testing.T) {
	long(t)
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	const archived = 50_000
	dir := newDir(t)
	folding, scraper := openStore(t, dir, Options{}), openStore(t, dir, Options{ReadOnly: true})
	family, other := counterFamily("requests_total", "client"), counterFamily("jobs_total", "queue")
	var actions []action
	for i := range archived {
		actions = append(actions, action{Do: "add", Family: family, Values: []string{fmt.Sprint("client-", i)}, V: 1})
	}
	leave(t, dir, 0, actions...)
	require.Equal(t, 1, mustFold(t, folding))
	scrape := func() { require.NoError(t, scraper.WriteText(io.Discard, "jobs_total")) }
	scrape()

	// A worker makes and deletes series of the same family, and nobody else has them.
	p := startLocal(t, dir, 1)
	generation := func() float64 {
		return gatherAll(t, scraper)["onescrape_store_folds_total"].Metric[0].Counter.GetValue()
	}
	for round := range 5 {
		for i := range 10 {
			p.do(action{Do: "add", Family: family, Values: []string{fmt.Sprint("churn-", round, "-", i)}, V: 1})
			p.do(action{Do: "delete", Family: family, Values: []string{fmt.Sprint("churn-", round, "-", i)}})
		}
		p.do(action{Do: "release"})
		before, written, objects, bytes := generation(), writtenBytes(t), allocatedObjects(), allocated()
		mustFold(t, folding)
		if round >= 2 {
			// The first two make the archive and the reserve the same.
			assert.Less(t, writtenBytes(t)-written, uint64(16<<10), "only what follows the families is written")
			assert.Less(t, allocated()-bytes, uint64(1<<20))
			assert.Less(t, allocatedObjects()-objects, uint64(2000))
		}
		read := readBytes(t)
		bytes = allocated()
		scrape()
		if round > 0 {
			assert.Less(t, readBytes(t)-read, uint64(64<<10), "the families are known")
			assert.Less(t, allocated()-bytes, uint64(4<<20), "nor are they decoded: that would be 20 MB")
		}
		assert.Equal(t, before+1, generation())
	}

	// A process dies that has one series of those, and one of another family.
	leave(t, dir, 2, action{Do: "add", Family: family, Values: []string{"client-7"}, V: 2},
		action{Do: "add", Family: other, Values: []string{"q"}, V: 3})
	objects := allocatedObjects()
	require.Equal(t, 1, mustFold(t, folding))
	assert.Less(t, allocatedObjects()-objects, uint64(2000), "the others are not decoded")
	assert.Equal(t, "jobs_total{queue=\"q\"} 3\n", text(t, scraper, "jobs_total"))
	requests := text(t, scraper, "requests_total")
	assert.Contains(t, requests, "requests_total{client=\"client-7\"} 3\n")
	assert.Contains(t, requests, "requests_total{client=\"client-8\"} 1\n")
	assert.NotContains(t, requests, "churn")
}

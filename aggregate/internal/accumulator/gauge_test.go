package accumulator

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore"
)

func TestMostRecentOfSeveralBoots(t *testing.T) {
	g := Gauge{Mode: shmstore.MostRecent}
	for _, v := range []struct {
		value    float64
		thisBoot bool
		at       int64
	}{{1, false, 100}, {2, false, 200}, {3, false, 150}} {
		g.Add(v.value, v.thisBoot, v.at)
	}
	assert.Equal(t, 2.0, g.Value())
	g.Add(4, true, 1)
	g.Add(5, false, 300)
	assert.Equal(t, 4.0, g.Value(), "whatever is of this boot is newer")
	g.Add(6, true, 2)
	assert.Equal(t, 6.0, g.Value())
}

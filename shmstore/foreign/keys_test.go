package foreign

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A label value that no exposition or no archive can hold is never taken over from a file.
func TestKeyValues(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		good  bool
	}{
		"empty":      {"", true},
		"as long":    {strings.Repeat("x", 1<<20), true},
		"longer":     {strings.Repeat("x", 1<<20+1), false},
		"not UTF-8":  {"\xff", false},
		"of letters": {"\u00e4\n\"", true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeys(&Library{Sample: func(*Kind, string) *Sample {
				return &Sample{Values: []string{test.value}, Family: shmstore.Family{Name: "c", Type: shmstore.CounterType,
					Labels: []string{"l"}}}
			}})
			s, err := k.get(&Kind{}, []byte("key"))
			if !test.good {
				require.ErrorIs(t, err, shmstore.ErrCorrupt)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{test.value}, s.Values)
		})
	}
}

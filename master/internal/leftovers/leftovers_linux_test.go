package leftovers

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// A status of another boot is no evidence.
func TestPossessionsOfAnotherBoot(t *testing.T) {
	now, err := json.Marshal(map[string]any{"possessions": Possessions{Boot: proc.BootID, Sockets: []uint64{1}}})
	require.NoError(t, err)
	assert.NotNil(t, Read(now))
	assert.Nil(t, Read([]byte(strings.Replace(string(now), proc.BootID, "another", 1))))
	assert.Nil(t, Read([]byte(`{"possessions":null}`)))
	assert.Nil(t, Read(nil))
}

package foreign

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// file is one of entries with these keys and zeros for numbers.
func file(doubles int, keys ...string) []byte {
	b := make([]byte, headSize)
	for _, key := range keys {
		b = binary.NativeEndian.AppendUint32(b, uint32(len(key)))
		b = fmt.Appendf(b, "%s%*s", key, 8-(len(key)+4)%8, "")
		b = append(b, make([]byte, doubles*doubleSize)...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// A file says nowhere how many numbers its entries have: it is found out, or the file is refused.
func TestJudge(t *testing.T) {
	// Six words behind the header: with one number an entry begins at each second, with two at each third.
	both := make([]byte, headSize, headSize+6*8)
	for _, key := range []string{"a", "", "b", "c", "d", ""} {
		both = binary.NativeEndian.AppendUint32(both, uint32(len(key)))
		both = fmt.Appendf(both, "%-4s", key)
	}
	binary.NativeEndian.PutUint32(both, uint32(len(both)))
	tests := map[string]struct {
		b     []byte
		sense func(key []byte) bool
		want  int // 0: refused
	}{
		"one number each":  {b: file(1, "first", "second", "third"), want: 1},
		"two numbers each": {b: file(2, "first", "second", "third"), want: 2},
		"one entry of one": {b: file(1, "k"), want: 1},
		"one entry of two": {b: file(2, "k"), want: 2},
		"fits neither":     {b: append(file(1, "first"), file(2, "second")[headSize:]...)},
		"fits both":        {b: both},
		"both, but one makes no sense": {b: both, want: 1,
			sense: func(key []byte) bool { return string(key) != "c" }},
		"both, but the other makes no sense": {b: both, want: 2,
			sense: func(key []byte) bool { return string(key) != "b" }},
		"both, and neither makes sense": {b: both, sense: func([]byte) bool { return false }},
	}
	binary.NativeEndian.PutUint32(tests["fits neither"].b, uint32(len(tests["fits neither"].b)))
	l := &Library{Doubles: []int{1, 2}}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			used, err := usedLength(test.b)
			require.NoError(t, err)
			n, err := l.judge(test.b, used, func(key []byte) error {
				if test.sense != nil && !test.sense(key) {
					return corrupt("%q", key)
				}
				return nil
			})
			assert.Equal(t, test.want, n)
			if test.want == 0 {
				assert.ErrorIs(t, err, shmstore.ErrCorrupt)
			}
		})
	}
}

// A file that two versions of a library have written to is not said to be broken at a key of some absurd length.
func TestMixedVersions(t *testing.T) {
	l := &Library{Name: "client_python", Doubles: []int{1, 2}}
	join := func(parts ...[]byte) []byte {
		b := slices.Clone(parts[0])
		for _, p := range parts[1:] {
			b = append(b, p[headSize:]...)
		}
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
		return b
	}
	long := `["requests_total", "requests_total", {"code": "200"}, "Requests."]`
	for name, b := range map[string][]byte{
		"old then new": join(file(1, long, long+"1"), file(2, long+"2", long+"3")),
		"new then old": join(file(2, long, long+"1"), file(1, long+"2", long+"3")),
		"in turn":      join(file(1, long), file(2, long+"1"), file(1, long+"2")),
	} {
		_, err := l.judge(b, int64(len(b)), func([]byte) error { return nil })
		require.ErrorIs(t, err, shmstore.ErrCorrupt, name)
		assert.ErrorContains(t, err, "it has entries of two versions of client_python, with 1 number each and with 2: stop the server, "+
			"empty the directory and start the server again", name)
		assert.NotContains(t, err.Error(), "a key of", name)
	}
	b := file(1, long, long+"1")
	binary.NativeEndian.PutUint32(b[headSize:], 539763320)
	_, err := l.judge(b, int64(len(b)), func([]byte) error { return nil })
	assert.ErrorContains(t, err, "a key of 539763320 bytes", "what is broken otherwise")
}

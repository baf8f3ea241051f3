package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
)

// dict is a file that this process writes as client_python does: it goes on with one that is there, keeps it open and
// mapped, writes an entry before it says that more is used, and never removes one.
type dict struct {
	file    *os.File
	memory  []byte
	doubles int
	at      map[string]int
}

const dictSize = 1 << 20

func openDict(dir, name string, doubles int) (*dict, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(dictSize); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, dictSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	d := &dict{file: f, memory: memory, doubles: doubles, at: map[string]int{}}
	if d.used() == 0 {
		d.setUsed(8)
	}
	for at := 8; at < d.used(); {
		length := int(binary.NativeEndian.Uint32(memory[at:]))
		value := at + 4 + length + 8 - (length+4)%8
		d.at[string(memory[at+4:at+4+length])] = value
		at = value + 8*doubles
	}
	return d, nil
}

func startDict(t testing.TB, dir, name string) *dict {
	t.Helper()
	d, err := openDict(dir, name, 1)
	require.NoError(t, err)
	t.Cleanup(d.die)
	return d
}

func (d *dict) used() int     { return int(binary.NativeEndian.Uint32(d.memory)) }
func (d *dict) setUsed(n int) { binary.NativeEndian.PutUint32(d.memory, uint32(n)) }

// cell returns the value of a key and, of two, its time.
func (d *dict) cell(key string) []byte {
	at, ok := d.at[key]
	if !ok {
		padded := key + strings.Repeat(" ", 8-(len(key)+4)%8)
		begin := d.used()
		binary.NativeEndian.PutUint32(d.memory[begin:], uint32(len(key)))
		copy(d.memory[begin+4:], padded)
		at = begin + 4 + len(padded)
		d.at[key] = at
		d.setUsed(at + 8*d.doubles)
	}
	return d.memory[at : at+8*d.doubles]
}

func (d *dict) set(key string, values ...float64) {
	cell := d.cell(key)
	for i, v := range values {
		binary.NativeEndian.PutUint64(cell[8*i:], math.Float64bits(v))
	}
}

func (d *dict) add(key string, v float64) {
	d.set(key, math.Float64frombits(binary.NativeEndian.Uint64(d.cell(key)))+v)
}

// die ends the process of the file.
func (d *dict) die() {
	if d.memory != nil {
		unix.Munmap(d.memory)
		d.file.Close()
		d.memory = nil
	}
}

// pyKey is a key as client_python writes it, with pairs of label and value.
func pyKey(metric, name string, labels ...string) string {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%q: %q", labels[i], labels[i+1]))
	}
	return fmt.Sprintf(`[%q, %q, {%s}, "help"]`, metric, name, strings.Join(pairs, ", "))
}

func pythonDir(t testing.TB, dir string, o foreign.Options) *foreign.Dir {
	t.Helper()
	d, err := python.Open(dir, o)
	require.NoError(t, err)
	return d
}

// foreignDir makes an empty directory, in memory where there is some.
func foreignDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "onescrape-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

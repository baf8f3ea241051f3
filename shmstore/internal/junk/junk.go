// Package junk remembers which files of a directory cannot be read, so that a look at the directory does not open each of
// them again.
package junk

// Retries is how many remembered files are opened again in one look at most: one that was mended in place is found in
// the next look, or, among very many, in one of the next.
const Retries = 64

// Detailed is how many errors are kept as they are. Of more files only the kind of error is kept.
const Detailed = 128

// Memory knows the files that could not be read, by name and inode. It is for one goroutine at a time. The zero value
// knows none.
type Memory struct {
	files   map[string]*file
	broken  map[string]error
	look    uint64
	retries int // left in this look
	version uint64
}

type file struct {
	inode  uint64
	seen   uint64 // the look that saw it last
	due    uint64 // the look in which it is opened again
	passes bool   // what is wrong is not the file's fault
}

// Begin begins a look at the directory.
func (m *Memory) Begin() {
	if m.files == nil {
		m.files, m.broken = map[string]*file{}, map[string]error{}
	}
	m.look++
	m.retries = Retries
}

// Skip reports whether a file is known and need not be opened in this look.
func (m *Memory) Skip(name []byte, inode uint64) bool {
	f := m.files[string(name)]
	if f == nil || f.inode != inode {
		return false
	}
	if f.seen == m.look {
		return true // listed twice
	}
	f.seen = m.look
	if f.passes {
		return false
	}
	if f.due > m.look || m.retries == 0 {
		return true
	}
	m.retries--
	return false
}

// Add remembers a file that cannot be read, because of err, which is of that kind. A kind of nil says that the file is not
// at fault: then it is opened in each look.
func (m *Memory) Add(name string, inode uint64, err, kind error) {
	f := m.files[name]
	if f == nil {
		f = &file{}
		m.files[name] = f
	}
	f.inode, f.seen, f.passes = inode, m.look, kind == nil
	f.due = m.look + 1 + uint64(len(m.files)/Retries)
	if len(m.files) > Detailed && kind != nil {
		err = kind
	}
	if old := m.broken[name]; old == nil || old.Error() != err.Error() {
		m.broken[name] = err
		m.version++
	}
}

// Remove forgets a file, which can be read.
func (m *Memory) Remove(name string) {
	if m.files[name] != nil {
		delete(m.files, name)
		delete(m.broken, name)
		m.version++
	}
}

// End ends a look, and forgets the files that it has not seen.
func (m *Memory) End() {
	for name, f := range m.files {
		if f.seen != m.look {
			m.Remove(name)
		}
	}
}

// Broken returns what is wrong with each file. The map is the Memory's.
func (m *Memory) Broken() map[string]error { return m.broken }

// Version returns another number whenever Broken has changed.
func (m *Memory) Version() uint64 { return m.version }

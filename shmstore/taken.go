package shmstore

import "time"

// takenCache is what a writer knows of the archive: up to which number its released series are in it. It reads the table
// behind the payload, never the families. An archive that is never written, because nobody folds, costs one look a second, or
// one for each lookEvery series that are added, and only while something waits.
type takenCache struct {
	number uint64
	head   archiveHead
	looked time.Time
	asked  int // times since then
}

// lookEvery is how many series cost so much more to add than a look at the head of the archive that it does not matter.
const lookEvery = 256

func (c *takenCache) get(d *Dir, nonce uint64) uint64 {
	if c.asked++; c.asked < lookEvery && time.Since(c.looked) < time.Second {
		return c.number
	}
	c.looked, c.asked = time.Now(), 0
	f, err := d.openArchive(archiveName)
	if err != nil {
		return c.number
	}
	defer f.Close()
	head, err := d.readArchiveHead(f)
	if err != nil || head == c.head {
		return c.number
	}
	// Whether or not it has a table for us, it is not looked at again before there is another archive.
	c.head = head
	if _, number, ok := readTable(f, &head, nonce); ok {
		c.number = max(c.number, number)
	}
	return c.number
}

package shmstore

import "time"

// takenCache is what a writer knows of the archive: up to which number its released series are in it. An archive that is
// never written, because nobody folds, costs one look a second, or one for each lookEvery series that are added, and only
// while something waits.
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
	head, err := d.archiveHead(archiveName)
	if err != nil || head == c.head {
		return c.number
	}
	if a, head, err := d.readArchive(archiveName); err == nil && a != nil {
		c.number, c.head = max(c.number, a.Taken[nonce]), head
	}
	return c.number
}

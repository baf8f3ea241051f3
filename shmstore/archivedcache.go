package shmstore

import "time"

// archivedCache is what a writer knows of the archive: up to which release its series are archived. It reads the table
// behind the payload, never the families. While something waits to be archived, the writer reads the head of the archive
// once a second, or once for lookEvery new series, also when nobody folds.
type archivedCache struct {
	number uint64
	head   archiveHead
	looked time.Time
	asked  int // times since then
}

// lookEvery is so many new series that one look at the head of the archive costs little beside adding them.
const lookEvery = 256

func (c *archivedCache) get(d *Dir, nonce uint64) uint64 {
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
	// With or without a table, it is not read again before there is another archive.
	c.head = head
	if _, number, ok := readTable(f, &head, nonce); ok {
		c.number = max(c.number, number)
	}
	return c.number
}

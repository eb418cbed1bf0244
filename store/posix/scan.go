package posix

import (
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// checkInterval is how often a directory is compared with its stamp, at most.
const checkInterval = time.Second

// scanner compares the files with the index.
type scanner struct{ x *index }

func (s *scanner) init(x *index) { s.x = x }

func (s *scanner) stop() {}

// noteFound tells that a read found a current version that another program
// made or changed (found.native false). The caller holds no guard.
func (x *index) noteFound(b *bucket, key string, info *store.Info) {}

// noteGone tells that a read found no current version of key. The caller
// holds no guard.
func (x *index) noteGone(b *bucket, key string) {}

// empty tells whether a bucket holds no object, no version and no marker.
func (x *index) empty(b *bucket) (bool, error) { panic("being written") }

// readNames returns up to max names in a directory (0: all).
func readNames(fd int, path string, max int) ([]string, error) {
	return nil, unix.ENOSYS
}

package posix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"herald/store"
)

// TestIndex_FullDisk fills the disk while the index has much to write. It must
// neither end the process nor block, and work again when there is room.
func TestIndex_FullDisk(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no small filesystem to fill: %v", err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	x := newTestIndex(t, root)
	if st, err := os.Stat(x.ballast.path); err != nil || st.Sys() == nil {
		t.Fatalf("ballast: %v", err)
	}
	for round := range 2 {
		// The second time there is no ballast left.
		fill := fillDisk(t, root)
		putMany(t, x, 2000)
		err := x.flush()
		switch {
		case round == 0 && err != nil:
			t.Fatalf("flush on a full disk, with ballast = %v", err)
		case round == 1 && !errors.Is(err, unix.ENOSPC):
			t.Fatalf("flush on a full disk, without ballast = %v, want ENOSPC", err)
		}
		if _, err := os.Stat(x.ballast.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ballast after the disk was full: %v, want it gone", err)
		}
		if round == 0 {
			continue // the disk is filled still more
		}
		for _, name := range []string{fill, root + "/fill-0"} {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	putMany(t, x, 2000)
	if err := x.flush(); err != nil || x.damaged.Load() {
		t.Fatalf("flush with room again = %v", err)
	}
	if _, err := os.Stat(x.ballast.path); err != nil {
		t.Errorf("ballast with room again: %v", err)
	}
	if err := x.close(); err != nil {
		t.Fatal(err)
	}
}

// fillDisk writes files until there is no room, and names the last.
func fillDisk(t *testing.T, root string) string {
	t.Helper()
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s/fill-%d", root, n)
		if _, err := os.Stat(name); err == nil {
			continue
		}
		f, err := os.Create(name)
		for err == nil {
			_, err = f.Write(make([]byte, 64<<10))
		}
		for err = nil; err == nil; { // and what is less than that
			_, err = f.Write(make([]byte, 512))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		_ = f.Close() // full, as it should be
		return name
	}
}

func putMany(t *testing.T, x *index, n int) {
	t.Helper()
	for i := range n {
		var b indexBatch
		info := &store.Info{Key: fmt.Sprintf("%0200d", i), Seq: uint64(i), ETag: md5Hex(fmt.Sprint(i))}
		b.setCurrent(testBucket, info.Key, info, areaNatural)
		if err := x.apply(&b); err != nil {
			t.Fatal(err)
		}
	}
}

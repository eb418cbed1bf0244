package posix

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"herald/store"
)

// asNobody runs f with the rights of another user on the filesystem.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // not unlocked: the thread goes with the goroutine
		_, _ = unix.SetfsuidRetUid(65534)
		if id, _ := unix.SetfsuidRetUid(-1); id != 65534 {
			t.Fatal("the user could not be changed")
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	}
	f()
}

// TestList_Unreadable: what cannot be read does not keep the rest from being
// listed, and is listed when it can be read.
func TestList_Unreadable(t *testing.T) {
	tr := newTree(t, Options{})
	tr.want("nothing", store.ListOptions{})
	tr.write("a", "x")
	tr.write("d/in", "x")
	tr.write("secret", "x")
	tr.write("z", "x")
	tr.must(os.Chmod(tr.path("d"), 0))
	tr.must(os.Chmod(tr.path("secret"), 0))
	asNobody(t, func() { tr.want("unreadable", store.ListOptions{}, "a 1", "z 1") })
	tr.must(os.Chmod(tr.path("d"), 0o755))
	tr.must(os.Chmod(tr.path("secret"), 0o644))
	tr.write("new", "x")
	tr.want("readable again", store.ListOptions{}, "a 1", "d/in 1", "new 1", "secret 1", "z 1")
}

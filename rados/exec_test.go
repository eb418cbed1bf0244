//go:build rados

package rados_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/rados"
)

// Requests of Ceph's class 2pc_queue, as it encodes them.
const (
	queueInit    = "010114000000 0020000000000000 0000000000000000 00000000" // 8192 bytes
	queueReserve = "01010c000000 7b00000000000000 01000000"                  // 123 bytes, 1 entry
	queueAbort1  = "010104000000 01000000"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newQueue(t testing.TB, io *rados.IO, oid string) {
	t.Helper()
	op := rados.NewWrite()
	op.Create(true)
	op.Exec("2pc_queue", "2pc_queue_init", unhex(t, queueInit))
	do(t, io, oid, op)
}

func TestExec_MethodThatWritesAndAnswers(t *testing.T) {
	_, io := connect(t, rados.Config{})
	newQueue(t, io, "q")
	read := rados.NewRead()
	read.AssertExists()
	s := read.Exec("2pc_queue", "2pc_queue_reserve", unhex(t, queueReserve))
	if _, err := operate(t, io, "q", read, rados.ReturnVec); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(unhex(t, "010104000000 01000000"), s.Data); d != "" {
		t.Errorf("in a ReadOp: %s", d)
	}
	w := rados.NewWrite()
	w.AssertExists()
	w.OmapSet(pair("intent", "x"))
	s = w.ExecOut("2pc_queue", "2pc_queue_reserve", unhex(t, queueReserve))
	w.SetXattr("a", []byte("y"))
	if _, err := operate(t, io, "q", w, rados.ReturnVec); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(unhex(t, "010104000000 02000000"), s.Data); d != "" {
		t.Errorf("in a WriteOp: %s", d)
	}
	read = rados.NewRead()
	omap, attr, list := read.OmapGetVals("", "", 10), read.GetXattr("a"), read.Exec("2pc_queue", "2pc_queue_list_reservations", nil)
	do(t, io, "q", read)
	if len(omap.Pairs) != 1 || string(attr.Data) != "y" || len(list.Data) < 60 {
		t.Errorf("omap %v, attribute %q, reservations %x", omap.Pairs, attr.Data, list.Data)
	}
	do(t, io, "q", write(func(op *rados.WriteOp) {
		op.Exec("2pc_queue", "2pc_queue_abort", unhex(t, queueAbort1))
		op.OmapRm("intent")
	}))
}

// TestExec_FailsTheWholeOperation checks that a method that refuses undoes the
// steps before it, and what errors say.
func TestExec_FailsTheWholeOperation(t *testing.T) {
	_, io := connect(t, rados.Config{})
	newQueue(t, io, "q")
	big := "01010c000000 ffffff0000000000 01000000"
	w := rados.NewWrite()
	w.OmapSet(pair("intent", "x"))
	s := w.ExecOut("2pc_queue", "2pc_queue_reserve", unhex(t, big))
	_, err := operate(t, io, "q", w, rados.ReturnVec)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "omap-set+exec 2pc_queue_reserve q: no space left") {
		t.Errorf("Operate = %v", err)
	}
	if s.Code != -int(syscall.ENOSPC) || !errors.Is(s.Err(), syscall.ENOSPC) {
		t.Errorf("step: %d, %v", s.Code, s.Err())
	}
	read := rados.NewRead()
	omap := read.OmapGetVals("", "", 10)
	do(t, io, "q", read)
	if len(omap.Pairs) != 0 {
		t.Errorf("omap after a refused operation: %v", omap.Pairs)
	}
	for _, tt := range []struct {
		class, method string
		want          error
	}{
		{"2pc_queue", "no_such_method", syscall.EOPNOTSUPP},
		{"no_such_class", "x", syscall.EOPNOTSUPP},
		{"2pc_queue", "2pc_queue_reserve", syscall.EINVAL}, // no input
		{"2pc\x00queue", "x", syscall.EINVAL},
	} {
		w := rados.NewWrite()
		w.Exec(tt.class, tt.method, nil)
		refused(t, io, "q", w, tt.want)
	}
	refused(t, io, "a\x00b", rados.NewRead(), syscall.EINVAL)
}

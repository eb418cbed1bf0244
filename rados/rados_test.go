//go:build rados

package rados_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/rados"
	"herald/tests/cephtest"
)

func TestMain(m *testing.M) { cephtest.MainDurable(m) }

// patience is how long a cluster may take for anything on a busy machine, such as
// to start an OSD.
const patience = 5 * time.Minute

// connect returns a namespace of its own on the shared cluster.
func connect(t testing.TB, cfg rados.Config) (*rados.Conn, *rados.IO) {
	t.Helper()
	c := cephtest.Start(t)
	pool, ns := c.Namespace(t)
	cfg.ConfFile = c.Conf
	return dial(t, cfg, pool, ns)
}

func dial(t testing.TB, cfg rados.Config, pool, ns string) (*rados.Conn, *rados.IO) {
	t.Helper()
	conn, err := rados.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	io, err := conn.IO(pool, ns)
	if err != nil {
		t.Fatal(err)
	}
	return conn, io
}

// do does an operation and fails the test when it fails.
func do(t testing.TB, io *rados.IO, oid string, op rados.Op) uint64 {
	t.Helper()
	version, err := operate(t, io, oid, op, 0)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func operate(t testing.TB, io *rados.IO, oid string, op rados.Op, flags rados.Flags) (uint64, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return io.Operate(ctx, oid, op, flags)
}

// refused checks that an operation fails with an error.
func refused(t testing.TB, io *rados.IO, oid string, op rados.Op, want error) {
	t.Helper()
	if _, err := operate(t, io, oid, op, 0); !errors.Is(err, want) {
		t.Errorf("Operate = %v, want %v", err, want)
	}
}

func write(build func(*rados.WriteOp)) *rados.WriteOp {
	op := rados.NewWrite()
	build(op)
	return op
}

func content(t testing.TB, io *rados.IO, oid string) string {
	t.Helper()
	op := rados.NewRead()
	s := op.Read(0, 1<<20)
	do(t, io, oid, op)
	return string(s.Data)
}

func TestOperate_Content(t *testing.T) {
	_, io := connect(t, rados.Config{})
	do(t, io, "o", write(func(op *rados.WriteOp) { op.Create(true); op.Write([]byte("0123456789"), 0) }))
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.Create(true) }), syscall.EEXIST)
	do(t, io, "o", write(func(op *rados.WriteOp) { op.Create(false); op.Append([]byte("ab")) }))
	do(t, io, "o", write(func(op *rados.WriteOp) { op.Zero(1, 2); op.Truncate(11); op.AllocHint(100, 100) }))
	if got, want := content(t, io, "o"), "0\x00\x003456789a"; got != want {
		t.Errorf("content = %q, want %q", got, want)
	}
	op := rados.NewRead()
	stat, part := op.Stat(), op.Read(3, 4)
	before := time.Now()
	do(t, io, "o", op)
	if stat.Size != 11 || stat.MTime.Before(before.Add(-time.Hour)) || string(part.Data) != "3456" {
		t.Errorf("stat %d %v, read %q", stat.Size, stat.MTime, part.Data)
	}
	op = rados.NewRead()
	buf := []byte("................")
	whole, end, none := op.ReadInto(0, buf), op.ReadInto(9, buf[12:]), op.ReadInto(0, nil)
	do(t, io, "o", op)
	if string(buf) != "0\x00\x003456789a.9a.." || &whole.Data[0] != &buf[0] || string(whole.Data) != "0\x00\x003456789a" ||
		string(end.Data) != "9a" || len(none.Data) != 0 {
		t.Errorf("read %q: %q, %q, %q", buf, whole.Data, end.Data, none.Data)
	}
	do(t, io, "o", write(func(op *rados.WriteOp) { op.WriteFull(nil) }))
	if got := content(t, io, "o"); got != "" {
		t.Errorf("content after WriteFull(nil) = %q", got)
	}
	do(t, io, "o", write(func(op *rados.WriteOp) { op.Remove() }))
	op = rados.NewRead()
	op.Stat()
	refused(t, io, "o", op, syscall.ENOENT)
}

func TestOperate_BigContentInOneOperation(t *testing.T) {
	_, io := connect(t, rados.Config{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	do(t, io, "o", write(func(op *rados.WriteOp) { op.WriteFull(data) }))
	op := rados.NewRead()
	s := op.Read(0, 8<<20)
	do(t, io, "o", op)
	if !bytes.Equal(s.Data, data) {
		t.Errorf("read %d bytes, not the %d that were written", len(s.Data), len(data))
	}
	op = rados.NewRead()
	s = op.ReadInto(16, make([]byte, 8<<20))
	do(t, io, "o", op)
	if !bytes.Equal(s.Data, data[16:]) {
		t.Errorf("read %d bytes into memory, not the %d that were written", len(s.Data), len(data)-16)
	}
}

func TestOperate_Asserts(t *testing.T) {
	_, io := connect(t, rados.Config{})
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.AssertExists(); op.WriteFull([]byte("x")) }), syscall.ENOENT)
	v1 := do(t, io, "o", write(func(op *rados.WriteOp) { op.WriteFull([]byte("abc")) }))
	v2 := do(t, io, "o", write(func(op *rados.WriteOp) { op.AssertVersion(v1); op.WriteFull([]byte("abcd")) }))
	if v2 <= v1 {
		t.Errorf("versions %d, %d", v1, v2)
	}
	stale := write(func(op *rados.WriteOp) { op.AssertVersion(v1); op.WriteFull([]byte("no")) })
	refused(t, io, "o", stale, rados.ErrMismatch)
	refused(t, io, "o", stale, syscall.ERANGE)
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.AssertVersion(v2 + 1); op.Remove() }), syscall.EOVERFLOW)
	read := rados.NewRead()
	read.AssertVersion(v2)
	if got := do(t, io, "o", read); got != v2 {
		t.Errorf("version of a read = %d, want %d", got, v2)
	}
	do(t, io, "o", write(func(op *rados.WriteOp) { op.CmpExt([]byte("bc"), 1); op.Append([]byte("e")) }))
	bad := write(func(op *rados.WriteOp) { op.CmpExt([]byte("bx"), 1); op.Remove() })
	refused(t, io, "o", bad, rados.ErrMismatch)
	if _, err := operate(t, io, "o", bad, 0); err == nil || err.Error() != "rados: cmpext+remove o: content differs at byte 1 of the compared range" {
		t.Errorf("error = %v", err)
	}
	if got := content(t, io, "o"); got != "abcde" {
		t.Errorf("content = %q", got)
	}
}

func TestOperate_Xattrs(t *testing.T) {
	_, io := connect(t, rados.Config{})
	do(t, io, "o", write(func(op *rados.WriteOp) {
		op.SetXattr("b", []byte("2\x00two"))
		op.SetXattr("a", nil)
		op.SetXattr("c", []byte("3"))
		op.RmXattr("c")
	}))
	op := rados.NewRead()
	all, b, absent := op.Xattrs(), op.GetXattr("b"), op.GetXattr("c")
	do(t, io, "o", op)
	if d := cmp.Diff([]rados.Pair{{Key: "a", Value: []byte{}}, {Key: "b", Value: []byte("2\x00two")}}, all.Pairs); d != "" {
		t.Error(d)
	}
	if string(b.Data) != "2\x00two" || b.Err() != nil || !errors.Is(absent.Err(), syscall.ENODATA) {
		t.Errorf("b = %q, %v; c: %v", b.Data, b.Err(), absent.Err())
	}
	for _, tt := range []struct {
		name  string
		c     rados.Comparison
		value string
		ok    bool
	}{
		{"b", rados.Equal, "2\x00two", true}, {"b", rados.Equal, "2", false}, {"b", rados.NotEqual, "2", true},
		{"b", rados.Greater, "3", true}, {"b", rados.Less, "3", false}, {"absent", rados.Equal, "", true},
		{"absent", rados.Equal, "x", false}, {"b", rados.LessOrEqual, "2\x00two", true}, {"b", rados.GreaterOrEqual, "2\x00two", true},
	} {
		t.Run(fmt.Sprintf("%s %d %q", tt.name, tt.c, tt.value), func(t *testing.T) {
			op := rados.NewRead()
			op.CmpXattr(tt.name, tt.c, []byte(tt.value))
			if _, err := operate(t, io, "o", op, 0); (err == nil) != tt.ok || err != nil && !errors.Is(err, rados.ErrMismatch) {
				t.Errorf("Operate = %v, want a match: %v", err, tt.ok)
			}
		})
	}
}

func pair(k, v string) rados.Pair { return rados.Pair{Key: k, Value: []byte(v)} }

func TestOperate_Omap(t *testing.T) {
	_, io := connect(t, rados.Config{})
	do(t, io, "o", write(func(op *rados.WriteOp) {
		op.OmapSet(pair("b/2", "x"), pair("a", ""), pair("b/1", "one\x00"), pair("b\x00nul", "n"), pair("c", "3"))
		op.OmapRm("c", "absent")
	}))
	op := rados.NewRead()
	all, some, page, keys := op.OmapGetVals("", "", 100), op.OmapGetByKeys("b/1", "b\x00nul", "absent"), op.OmapGetVals("b/1", "b/", 1), op.OmapGetKeys("a", 2)
	do(t, io, "o", op)
	if d := cmp.Diff([]rados.Pair{{Key: "a", Value: []byte{}}, pair("b\x00nul", "n"), pair("b/1", "one\x00"), pair("b/2", "x")}, all.Pairs); d != "" || all.More {
		t.Error(d, all.More)
	}
	if d := cmp.Diff([]rados.Pair{pair("b\x00nul", "n"), pair("b/1", "one\x00")}, some.Pairs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]rados.Pair{pair("b/2", "x")}, page.Pairs); d != "" || page.More {
		t.Error(d, page.More)
	}
	if len(keys.Pairs) != 2 || keys.Pairs[1].Key != "b/1" || !keys.More {
		t.Errorf("keys = %v, more %v", keys.Pairs, keys.More)
	}
	do(t, io, "o", write(func(op *rados.WriteOp) { op.OmapCmp("b/2", rados.Equal, []byte("x")); op.OmapSet(pair("d", "4")) }))
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.OmapCmp("b/2", rados.Equal, []byte("y")); op.OmapClear() }), rados.ErrMismatch)
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.OmapCmp("absent", rados.Equal, []byte("y")); op.OmapClear() }), rados.ErrMismatch)
	do(t, io, "o", write(func(op *rados.WriteOp) { op.OmapRmRange("a", "c") }))
	op = rados.NewRead()
	all = op.OmapGetVals("", "", 100)
	do(t, io, "o", op)
	if d := cmp.Diff([]rados.Pair{pair("d", "4")}, all.Pairs); d != "" {
		t.Error(d)
	}
	do(t, io, "o", write(func(op *rados.WriteOp) { op.OmapClear() }))
	do(t, io, "o", op)
	if len(all.Pairs) != 0 {
		t.Errorf("after OmapClear: %v", all.Pairs)
	}
}

//go:build rados

package rados_test

import (
	"fmt"
	"testing"
	"time"

	"herald/rados"
)

// BenchmarkOperate does one operation at a time: what a gateway's requests wait
// for, at least.
func BenchmarkOperate(b *testing.B) {
	_, io := connect(b, rados.Config{})
	data := make([]byte, 4<<10)
	tag := time.Now().UnixNano()
	operate := func(b *testing.B, oid string, op rados.Op) {
		b.Helper()
		if _, err := io.Operate(b.Context(), oid, op, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("omap-set", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			operate(b, "omap", write(func(op *rados.WriteOp) { op.OmapSet(rados.Pair{Key: fmt.Sprint(i), Value: data[:64]}) }))
		}
	})
	b.Run("create-4KiB", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			operate(b, fmt.Sprint(tag, "-", b.N, "-", i), write(func(op *rados.WriteOp) {
				op.Create(true)
				op.WriteFull(data)
				op.SetXattr("head", data[:200])
			}))
		}
	})
	b.Run("read-4KiB", func(b *testing.B) {
		for i := range 100 {
			operate(b, fmt.Sprint("read", i), write(func(op *rados.WriteOp) { op.WriteFull(data) }))
		}
		for i := 0; b.Loop(); i++ {
			op := rados.NewRead()
			op.Xattrs()
			op.ReadInto(0, data)
			operate(b, fmt.Sprint("read", i%100), op)
		}
	})
}

//go:build rados

package rados

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"herald/queue"
	librados "herald/rados"
)

// onObject does an operation of one step, a method of a class.
func onObject(t *testing.T, d *Driver, oid, class, method string, in []byte) ([]byte, error) {
	t.Helper()
	op := librados.NewWrite()
	op.AssertExists()
	step := op.ExecOut(class, method, in)
	_, err := d.operate(t.Context(), oid, op, librados.ReturnVec)
	return step.Data, err
}

// ofObject is onObject of a method that reads.
func ofObject(t *testing.T, d *Driver, oid, method string, in []byte) []byte {
	t.Helper()
	op := librados.NewRead()
	op.AssertExists()
	step := op.Exec(classQueue, method, in)
	if _, err := d.operate(t.Context(), oid, op, 0); err != nil {
		t.Fatal(err)
	}
	return step.Data
}

// reserveInClass makes a reservation of the class, which the driver needs not.
func reserveInClass(t *testing.T, d *Driver, oid string, size uint64) uint32 {
	t.Helper()
	data, err := onObject(t, d, oid, classQueue, methodReserve, encodeReserve(size, 1))
	if err != nil {
		t.Fatal(err)
	}
	id, err := decodeReserve(data)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// headOf reads the class's head.
func headOf(t *testing.T, d *Driver, oid string) classHead {
	t.Helper()
	op := librados.NewRead()
	step := op.Read(0, headSize)
	if _, err := d.operate(t.Context(), oid, op, 0); err != nil {
		t.Fatal(err)
	}
	head, err := decodeHead(step.Data)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// The class queue appends to a ring that 2pc_queue made, and frees it, as far
// as there is room and without touching reservations.
func TestClass_QueueOn2pcQueue(t *testing.T) {
	h := newHarness(t, Options{})
	const oid = "ring"
	init := librados.NewWrite()
	init.Create(true)
	init.Exec(classQueue, methodInit, encodeInit(1000))
	if _, err := h.d.operate(t.Context(), oid, init, 0); err != nil {
		t.Fatal(err)
	}
	id := reserveInClass(t, h.d, oid, 300)
	fill := func() (n int, err error) {
		for ; err == nil; n++ {
			_, err = onObject(t, h.d, oid, classRing, methodEnqueue, encodeEnqueue([]byte(strings.Repeat("x", 90))))
		}
		return n - 1, err
	}
	if n, err := fill(); n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d entries, then %v, want ENOSPC after 10, which fill it to the byte", n, err)
	}
	l, err := decodeList(ofObject(t, h.d, oid, methodList, encodeList(100, "")))
	if err != nil || len(l.entries) != 10 || len(l.entries[9].data) != 90 {
		t.Fatalf("list of the class: %d entries, %v", len(l.entries), err)
	}
	if _, err := onObject(t, h.d, oid, classRing, methodFree, encodeFree(l.entries[4].marker)); err != nil {
		t.Errorf("free = %v", err)
	}
	if n, err := fill(); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d entries, then %v, want ENOSPC after 4", n, err)
	}
	if _, err := onObject(t, h.d, oid, classRing, methodFree, encodeFree("1/24776")); err != nil {
		t.Errorf("free over the end = %v", err)
	}
	if _, err := onObject(t, h.d, oid, classRing, methodFree, encodeFree("1/24676")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("free what is free = %v, want EINVAL", err)
	}
	if c, err := decodeCapacity(ofObject(t, h.d, oid, methodCapacity, nil)); c != 1000 || err != nil {
		t.Errorf("capacity = %d, %v", c, err)
	}
	head := headOf(t, h.d, oid)
	want := position{1, 24576 + 400}
	if head.front != (position{1, 24776}) || head.tail != want || head.reserved != 310 || head.reservations[id].size != 300 {
		t.Errorf("head = %+v", head)
	}
	if _, err := onObject(t, h.d, oid, classQueue, methodCommit, encodeCommit(id, []byte("a"), []byte("b"))); err != nil {
		t.Errorf("commit by the class = %v", err)
	}
	if _, err := onObject(t, h.d, oid, classQueue, methodRemove, encodeRemove("1/24976", 2)); err != nil {
		t.Errorf("remove by the class = %v", err)
	}
	if l, err := decodeList(ofObject(t, h.d, oid, methodList, encodeList(100, ""))); err != nil || len(l.entries) != 2 || string(l.entries[1].data) != "b" {
		t.Errorf("list of the class: %d entries, %v", len(l.entries), err)
	}
}

// What the driver does leaves the class's reservations alone, and is not
// hindered by them; the class reads what the driver wrote.
func TestClass_ReadsOurs(t *testing.T) {
	h := newHarness(t, Options{})
	q := create(t, h.d, "q", 100_000)
	for i := range 200 {
		mustPut(t, q, fmt.Sprint(i), "x")
		if i < 197 {
			list := all(t, q)
			mustAck(t, q, ackAll(list))
		}
	}
	if head := headOf(t, h.d, q.oid); head.reserved != 0 || head.lastID != 0 || len(head.reservations) != 0 {
		t.Errorf("head = %+v, want no reservation ever", head)
	}
	l, err := decodeList(ofObject(t, h.d, q.oid, methodList, encodeList(100, "")))
	if err != nil || len(l.entries) < 3 {
		t.Fatalf("list of the class: %d entries, %v", len(l.entries), err)
	}
	f, err := decodeFrame(l.entries[len(l.entries)-1].data)
	if err != nil || len(f.data) != 2 || string(f.data[0]) != "199" {
		t.Errorf("last frame = %+v, %v", f, err)
	}
	wantClean(t, h.d, "q")
	reserveInClass(t, h.d, q.oid, uint64(q.rec.ring)/2)
	for range 20 { // more than the class has left
		mustPut(t, q, strings.Repeat("y", 50_000))
		mustAck(t, q, ackAll(all(t, q)))
	}
	found, err := h.d.Check(t.Context(), "q", true)
	if err != nil || len(found) != 1 || found[0].Kind != "class" || !found[0].Repaired {
		t.Errorf("Check = %+v, %v", found, err)
	}
	wantClean(t, h.d, "q")
}

// ackAll acks all entries of a list.
func ackAll(list []queue.Entry) queue.Ack {
	if len(list) == 0 {
		return queue.Ack{}
	}
	return queue.Ack{UpTo: list[len(list)-1].Marker}
}

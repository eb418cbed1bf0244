//go:build rados

package rados

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// unhex reads hexadecimal digits with spaces between.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a server accepts, byte for byte.
func TestEncode(t *testing.T) {
	lock := lockCall{name: "n", kind: lockExclusive, cookie: "c", description: "d"}
	cases := []struct {
		name string
		got  []byte
		want string
	}{
		{"reserve", encodeReserve(123, 456), "0101 0c000000 7b00000000000000 c8010000"},
		{"commit", encodeCommit(123, []byte("foo"), []byte("bar")),
			"0101 16000000 7b000000 02000000 03000000 666f6f 03000000 626172"},
		{"enqueue", encodeEnqueue([]byte("data")), "0101 0c000000 01000000 04000000 64617461"},
		{"free", encodeFree("0/31796"), "0101 0b000000 07000000 302f3331373936"},
		{"abort", encodeAbort(1), "0101 04000000 01000000"},
		{"remove", encodeRemove("0/31796", 42), "0201 0f000000 07000000 302f3331373936 2a000000"},
		{"init", encodeInit(8192), "0101 14000000 0020000000000000 0000000000000000 00000000"},
		{"list", encodeList(10, ""), "0201 10000000 0a00000000000000 00000000 00000000"},
		{"lock", lock.encodeLock(1500*time.Millisecond, lockMayRenew),
			"0101 1d000000 01000000 6e 01 01000000 63 00000000 01000000 64 01000000 0065cd1d 01"},
		{"unlock", lock.encodeUnlock(), "0101 0a000000 01000000 6e 01000000 63"},
		{"assert", lock.encodeAssert(), "0101 0f000000 01000000 6e 01 01000000 63 00000000"},
		{"info", lock.encodeInfo(), "0101 05000000 01000000 6e"},
		{"break", lock.encodeBreak(holder{kind: 8, number: 4210, cookie: "x"}),
			"0101 13000000 01000000 6e 08 7210000000000000 01000000 78"},
	}
	for _, c := range cases {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s = %x, want %x", c.name, c.got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	if id, err := decodeReserve(unhex(t, "0101 04000000 03000000")); id != 3 || err != nil {
		t.Errorf("decodeReserve = %d, %v", id, err)
	}
	if c, err := decodeCapacity(unhex(t, "0101 08000000 0000100000000000")); c != 1<<20 || err != nil {
		t.Errorf("decodeCapacity = %d, %v", c, err)
	}
	rs, err := decodeReservations(unhex(t, "0101 1e000000 01000000 01000000 0101 10000000 0600000000000000 a638016b 5e045017"))
	want := map[uint32]classReservation{1: {size: 6, time: time.Unix(0x6b0138a6, 0x1750045e)}}
	if diff := cmp.Diff(want, rs, cmp.AllowUnexported(classReservation{})); diff != "" || err != nil {
		t.Errorf("decodeReservations = %v (-want +got):\n%s", err, diff)
	}
	l, err := decodeList(unhex(t, `0101 28000000 01 07000000 302f3234353839 01000000
		0101 12000000 03000000 616263 07000000 302f3234353736`))
	wantList := classList{entries: []classEntry{{"0/24576", []byte("abc")}}, next: "0/24589", truncated: true}
	if diff := cmp.Diff(wantList, l, cmp.AllowUnexported(classList{}, classEntry{})); diff != "" || err != nil {
		t.Errorf("decodeList = %v (-want +got):\n%s", err, diff)
	}
}

// freshHead is that of an empty queue of 8,192 bytes.
const freshHead = `adde 6500000000000000 0101 5f000000 0060000000000000
	0101 10000000 0000000000000000 0060000000000000
	0101 10000000 0000000000000000 0060000000000000
	0080000000000000 005c000000000000 17000000
	0101 11000000 0000000000000000 00000000 00000000 00`

func TestDecodeHead(t *testing.T) {
	b := unhex(t, freshHead)
	h, err := decodeHead(b)
	first := position{0, 24576}
	want := classHead{encoded: 0x65, maxHead: 24576, front: first, tail: first, end: 32768, state: 23,
		reservations: map[uint32]classReservation{}}
	if diff := cmp.Diff(want, h, cmp.AllowUnexported(classHead{}, position{})); diff != "" || err != nil {
		t.Errorf("decodeHead = %v (-want +got):\n%s", err, diff)
	}
	if at := h.reservedAt(); at != uint64(len(b))-17 {
		t.Errorf("reservedAt() = %d, want %d", at, len(b)-17)
	}
	if h, err = decodeHead(b[:88]); err != nil || h.tail != first || h.end != 32768 {
		t.Errorf("decodeHead(start of it) = %+v, %v", h, err)
	}
	if _, err := decodeHead(b[:80]); err == nil {
		t.Error("decodeHead(less than the start) = nil")
	}
}

// TestDecodeHead_Newer has a state as OSDs from Squid on write it.
func TestDecodeHead_Newer(t *testing.T) {
	b := unhex(t, `adde 8700000000000000 0101 81000000 0060000000000000
		0101 10000000 0100000000000000 0070000000000000
		0101 10000000 0100000000000000 0070000000000000
		0080000000000000 005c000000000000 39000000
		0301 33000000 6f00000000000000 07000000 01000000
		02000000 0201 14000000 6400000000000000 01000000 02000000 01000000 01 05000000`)
	h, err := decodeHead(b)
	if err != nil || h.reserved != 111 || h.lastID != 7 || !h.spilled || h.reservations[2].entries != 1 || h.tail.gen != 1 {
		t.Errorf("decodeHead = %+v, %v", h, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{freshHead,
		"0101 1e000000 01000000 01000000 0101 10000000 0600000000000000 a638016b 5e045017",
		"0101 28000000 01 07000000 302f3234353839 01000000 0101 12000000 03000000 616263 07000000 302f3234353736",
		`0101 40000000 01000000 0101 0e000000 08 7210000000000000 01000000 78
		0101 1c000000 01000000 02000000 01 01 0c000000 00000000 00000000 00000000 00000000 01 00000000`,
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// None may panic, or take more memory than comes in.
		_, _ = decodeReserve(b)
		_, _ = decodeCapacity(b)
		_, _ = decodeReservations(b)
		_, _ = decodeList(b)
		_, _ = decodeLockInfo(b)
		h, err := decodeHead(b)
		if err == nil && len(h.reservations) > len(b)/26 {
			t.Errorf("%d reservations from %d bytes", len(h.reservations), len(b))
		}
	})
}

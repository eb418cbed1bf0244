package notify

import (
	"fmt"
	"testing"
	"time"

	"herald/store"
)

// What a change costs: without rules, and with a persistent topic. The store
// is a map, so that what is measured is notify and the queue.
func BenchmarkChange(b *testing.B) {
	for _, persistent := range []bool{false, true} {
		b.Run(fmt.Sprint("persistent=", persistent), func(b *testing.B) {
			r := newRig(b, quick())
			if persistent {
				r.notify(rule("n", r.topic("t", deadEndpoint(), "persistent", "true"), Filter{}))
			}
			attrs := store.Attrs{"content-type": "x", "x-amz-meta-a": "1"}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				key := fmt.Sprint("k", i%1000)
				p, err := r.reserve(ObjectCreatedPut, key, attrs)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.Do(r.ctx, r.store.put("b", key, "d41d8cd98f00b204e9800998ecf8427e", attrs)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	in := goldenIntent()
	in.rules = in.rules[:1]
	topic := &Topic{Name: "t", ARN: in.arn, Dest: Dest{PushEndpoint: "http://h", MaxRetries: Unset}}
	out := &store.Outcome{Changed: true, Seq: uint64(time.Now().UnixNano()), Info: &store.Info{ETag: "e", ModTime: time.Now(), Attrs: store.Attrs{"x-amz-meta-a": "1"}}}
	b.ReportAllocs()
	for b.Loop() {
		in.entries("default", topic, out)
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	in := goldenIntent()
	in.rules = in.rules[:1]
	topic := &Topic{Name: "t", ARN: in.arn, Dest: Dest{PushEndpoint: "http://h", MaxRetries: Unset}}
	out := &store.Outcome{Changed: true, Seq: uint64(time.Now().UnixNano()), Info: &store.Info{ETag: "e", ModTime: time.Now()}}
	data := in.entries("default", topic, out)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
}

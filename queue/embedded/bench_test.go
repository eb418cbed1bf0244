package embedded

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"herald/journal"
	"herald/queue"
)

// BenchmarkReserveCommit measures pairs of Reserve and Commit with an intent
// and an entry of 1 KiB each; "acked" with a consumer that keeps up.
func BenchmarkReserveCommit(b *testing.B) {
	for _, workers := range []int{1, 64} {
		for _, acked := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dworkers/acked=%v", workers, acked), func(b *testing.B) {
				benchReserveCommit(b, workers, 11, acked)
			})
		}
	}
}

func benchReserveCommit(b *testing.B, workers, shards int, acked bool) {
	h := newHarness(b, journal.Options{}, Options{})
	ctx, cancel := context.WithCancel(b.Context())
	var queues []queue.Queue
	var consumers sync.WaitGroup
	for i := range shards {
		name := fmt.Sprintf(":topic.%d", i)
		if err := h.d.Create(ctx, name, 1<<40); err != nil {
			b.Fatal(err)
		}
		q, err := h.d.Open(ctx, name)
		if err != nil {
			b.Fatal(err)
		}
		queues = append(queues, q)
		if acked {
			consumers.Go(func() { drain(ctx, q) })
		}
	}
	intent, data := make([]byte, 1024), [][]byte{make([]byte, 1024)}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < b.N; i += workers {
				q := queues[i%shards]
				id, err := q.Reserve(ctx, intent, 1024, 1)
				if err == nil {
					err = q.Commit(ctx, id, data)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
	cancel()
	consumers.Wait()
}

// drain acks what comes until ctx is done.
func drain(ctx context.Context, q queue.Queue) {
	for {
		if err := q.(queue.Waiter).Wait(ctx, ""); err != nil {
			return
		}
		entries, _, err := q.List(ctx, "", 256)
		if err != nil {
			return
		}
		var done []queue.Marker
		for _, e := range entries {
			done = append(done, e.Marker)
		}
		if err := q.Ack(ctx, queue.Ack{Done: done}); err != nil {
			return
		}
	}
}

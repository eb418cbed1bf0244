package journal

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkAppendWait measures durable records per second by the number of
// those who wait.
func BenchmarkAppendWait(b *testing.B) {
	for _, size := range []int{300, 4600} {
		for _, waiters := range []int{1, 32, 64} {
			b.Run(fmt.Sprintf("%dB/%dwaiters", size, waiters), func(b *testing.B) {
				benchAppendWait(b, size, waiters)
			})
		}
	}
}

func benchAppendWait(b *testing.B, size, waiters int) {
	c := newModel()
	j := start(b, b.TempDir(), Options{}, c)
	stop := run(b, j)
	payload := make([]byte, size)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range waiters {
		wg.Go(func() {
			for i := w; i < b.N; i += waiters {
				lsn, err := j.Append(1, payload)
				if err == nil {
					err = j.Wait(lsn)
				}
				if err != nil {
					b.Error(err)
					return
				}
				c.apply(lsn)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := j.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(s.Records)/float64(s.Flushes), "records/flush")
	if err := stop(); err != nil {
		b.Error(err)
	}
	if err := j.Close(); err != nil {
		b.Error(err)
	}
}

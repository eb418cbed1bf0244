package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPhaseOthers(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(d time.Duration) int64 { return start.Add(d).UnixNano() }
	p := &phase{began: make([]atomic.Int64, 2*deadTopics+1), delivered: make([]atomic.Int64, 2*deadTopics+1)}
	for n := range 2 * deadTopics { // the last PUT was not made
		p.began[n].Store(at(time.Second))
		if n%deadTopics != deadTopics-1 { // nothing comes to the last topic
			p.delivered[n].Store(at(time.Second + 5*time.Millisecond))
		}
	}
	p.delivered[deadTopics].Store(at(4 * time.Second)) // the second of the first topic
	o, whole := p.others(start)
	if want := float64(2*(deadTopics-1)) / 4; !whole || o.rate != want || o.slowest != 0.5 || o.median != 5*time.Millisecond || o.p99 != 3*time.Second {
		t.Errorf("others = %+v, %v, want rate %v, slowest 0.5, median 5 ms, p99 3 s", o, whole, want)
	}
	p.delivered[0].Store(0)
	if _, whole := p.others(start); whole {
		t.Error("others is whole without an event")
	}
}

func TestMedianOf(t *testing.T) {
	got := medianOf([]others{{rate: 3, median: 1}, {rate: 1, median: 5}, {rate: 2, median: 3}, {rate: 4, median: 9}})
	if got.rate != 2.5 || got.median != 4 {
		t.Errorf("medianOf = %+v, want rate 2.5, median 4", got)
	}
}

func TestServeSink(t *testing.T) {
	got := make(chan string, 3)
	url, err := serveSink(func(body []byte) { got <- string(body) })
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"first", "", "the third"} {
		resp, err := http.Post(url, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("answer = %s", resp.Status)
		}
		if taken := <-got; taken != body {
			t.Errorf("body = %q, want %q", taken, body)
		}
	}
}

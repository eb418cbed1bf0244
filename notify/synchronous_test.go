package notify

import "testing"

// A topic that is deleted while an event is pushed to it has had that event: it
// does not count as skipped.
func TestSynchronous_DeletedMeanwhile(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, func(Record) int {
		if err := r.s.Topics().Delete(r.ctx, "", "t"); err != nil {
			t.Error(err)
		}
		return 200
	})
	r.notify(rule("n", r.topic("t", sink.URL), Filter{}))
	r.put("k", "e")
	if n := len(sink.got()); n != 1 {
		t.Errorf("%d events came", n)
	}
	if n := r.counter("herald_notify_skipped_total"); n != 0 {
		t.Errorf("%v events count as skipped", n)
	}
}

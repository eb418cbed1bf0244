//go:build rados

package interchange

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	queuerados "herald/queue/rados"
	"herald/rados"
)

// turns is a pair that fills one queue from both sides.
type turns struct {
	*pair
	n    int             // objects that each puts in a turn
	turn int             // the last
	want map[string]bool // bucket and key of all that were put
}

func newTurns(t *testing.T) *turns {
	p := newPair(t)
	s := &turns{pair: p, n: 50, want: make(map[string]bool)}
	if testing.Short() {
		s.n /= 5
	}
	topic := p.radosgw.topic("shared", p.receiver.URL+"/radosgw")
	p.startHerald("--topic-shards", "1")
	p.radosgw.bucket("rbucket", rules{"n1": topic})
	p.herald.bucket("hbucket", rules{"n1": p.herald.topic("shared", p.receiver.URL+"/herald")})
	return s
}

// fill has each site that is given put objects.
func (s *turns) fill(sites map[string]*site) {
	s.t.Helper()
	s.turn++
	for i := range s.n {
		for bucket, site := range sites {
			key := fmt.Sprintf("%d/%03d", s.turn, i)
			site.put(bucket, key, "x")
			s.want[bucket+"/"+key] = true
		}
	}
}

// both are the two sites, by their buckets.
func (s *turns) both() map[string]*site {
	return map[string]*site{"hbucket": s.herald, "rbucket": s.radosgw}
}

// Who sent the events of a turn.
const (
	heraldAlone  = "Herald"
	radosgwAlone = "radosgw"
	either       = ""
)

// arrived waits until all events came, those of the last turn from who.
func (s *turns) arrived(who string, patience time.Duration) {
	s.t.Helper()
	came := func() map[string]int {
		m := make(map[string]int)
		for _, r := range s.receiver.all() {
			m[r.S3.Bucket.Name+"/"+r.S3.Object.Key]++
		}
		return m
	}
	s.eventually(fmt.Sprintf("all events of turn %d came", s.turn), patience, func() bool { return len(came()) >= len(s.want) })
	again := 0
	for k, n := range came() {
		if !s.want[k] {
			s.t.Errorf("an event came of %s, which was not put", k)
		}
		again += n - 1
	}
	prefix := fmt.Sprintf("%d/", s.turn)
	for _, r := range s.receiver.all() {
		if !strings.HasPrefix(r.S3.Object.Key, prefix) || who == either || r.byHerald == (who == heraldAlone) {
			continue
		}
		s.t.Errorf("turn %d: %s was not sent by %s", s.turn, r.S3.Object.Key, who)
	}
	s.t.Logf("turn %d: %d events, %d of them again", s.turn, len(s.want), again)
}

// Herald and radosgw have the queue in turns, and lose nothing: while they
// hand it over, too, both fill it. Each gives it back in the end (Herald), has
// it taken away (radosgw does not give it back), or is killed.
func TestTurns(t *testing.T) {
	s := newTurns(t)
	s.receiver.down.Store(true)
	s.fill(s.both())
	s.heraldOwns("shared")
	s.receiver.down.Store(false)
	s.arrived(heraldAlone, patience)

	// Herald stops, and gives the lock back. Radosgw goes on filling.
	if err := s.gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	s.fill(map[string]*site{"rbucket": s.radosgw})
	s.arrived(radosgwAlone, lookPatience)
	if !s.lockHolder("shared").isRadosgw() {
		t.Error("radosgw does not own the queue")
	}
	if err := s.gateway.Run(); err != nil {
		t.Fatal(err)
	}
	s.fill(s.both())
	s.arrived(radosgwAlone, patience)

	// Radosgw has the lock taken away while it cannot deliver.
	s.receiver.down.Store(true)
	s.fill(s.both())
	s.heraldOwns("shared")
	s.receiver.down.Store(false)
	s.arrived(heraldAlone, patience)
	s.eventually("the queue is empty", patience, func() bool { return s.entries(":shared") == 0 })
}

// The one that dies leaves the queue to the other one when its lock ends.
func TestTurns_Killed(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for radosgw's lock to expire: 90 s")
	}
	s := newTurns(t)
	s.receiver.down.Store(true)
	s.fill(s.both())
	s.heraldOwns("shared")
	s.gateway.Kill()
	s.receiver.down.Store(false)
	s.arrived(radosgwAlone, lookPatience+30*time.Second)
	if err := s.gateway.Run(); err != nil {
		t.Fatal(err)
	}
	s.receiver.down.Store(true)
	s.fill(s.both())
	s.rgw.Kill(t)
	s.receiver.down.Store(false)
	s.arrived(heraldAlone, lockPatience)
	s.rgw.Run(t)
	s.fill(s.both())
	s.arrived(either, lookPatience)
	s.eventually("the queue is empty", patience, func() bool { return s.entries(":shared") == 0 })
}

// reservations counts those in the class.
func (p *pair) reservations(object string) int {
	p.t.Helper()
	conn, err := rados.Connect(p.t.Context(), rados.Config{ConfFile: p.cluster.Conf})
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	io, err := conn.IO(queuerados.RGWPool, queuerados.RGWNamespace)
	if err != nil {
		p.t.Fatal(err)
	}
	op := rados.NewRead()
	list := op.Exec("2pc_queue", "2pc_queue_list_reservations", nil)
	if _, err := io.Operate(p.t.Context(), object, op, 0); err != nil {
		p.t.Fatal(err)
	}
	return int(binary.LittleEndian.Uint32(list.Data[6:])) // after the frame
}

// slowPut begins a PUT, of which a little comes now and then, and returns what
// ends it: with the rest of the body, or by breaking off.
func slowPut(s *site, bucket, key string) (end func(whole bool) error) {
	s.t.Helper()
	const size, pause = 1000, 5 * time.Second
	signed, err := s3.NewPresignClient(s.s3).PresignPutObject(s.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key})
	s.check(err)
	read, write := io.Pipe()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, signed.URL, read)
	s.check(err)
	req.ContentLength = size
	answer, whole := make(chan error, 1), make(chan bool)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("PUT = %s", resp.Status)
			}
		}
		_ = read.CloseWithError(io.ErrClosedPipe) // nobody reads on
		answer <- err
	}()
	go func() {
		for left := size; ; left-- {
			if _, err := write.Write([]byte("x")); err != nil {
				<-whole
				return
			}
			select {
			case <-time.After(pause):
			case all := <-whole:
				if all {
					_, _ = io.WriteString(write, strings.Repeat("x", left-1)) // the answer tells
					_ = write.Close()
				} else {
					_ = write.CloseWithError(context.Canceled)
				}
				return
			}
		}
	}()
	return func(all bool) error {
		whole <- all
		return <-answer
	}
}

// A radosgw that dies in the middle of an upload leaves a reservation; the
// Herald that owns the queue ends it by its age.
func TestReservationOfDeadRadosgw(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the end of a reservation: 120 s")
	}
	s := newTurns(t)
	s.receiver.down.Store(true)
	s.fill(s.both())
	s.heraldOwns("shared")
	end := slowPut(s.radosgw, "rbucket", "never")
	s.eventually("radosgw has reserved", patience, func() bool { return s.reservations("shared") == 1 })
	s.rgw.Kill(t)
	if err := end(false); err == nil {
		t.Fatal("the upload was answered")
	}
	s.eventually("the reservation has ended", 150*time.Second+patience, func() bool { return s.reservations("shared") == 0 })
	s.receiver.down.Store(false)
	s.arrived(heraldAlone, patience)
}

// An upload to Herald that takes longer than the radosgw that owns the queue
// lets reservations live keeps its event.
func TestLongUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("takes longer than a reservation of radosgw lives: 120 s")
	}
	p := newPair(t)
	p.radosgw.topic("shared", p.receiver.URL+"/radosgw")
	p.eventually("radosgw owns the queue", lookPatience, func() bool { return p.lockHolder("shared").isRadosgw() })
	// With this age Herald renews its reservations when radosgw has ended them.
	p.startHerald("--topic-shards", "1", "--reservation-stale", "20m")
	p.herald.bucket("hbucket", rules{"n1": p.herald.topic("shared", p.receiver.URL+"/herald")})
	end := slowPut(p.herald, "hbucket", "long")
	p.eventually("Herald has reserved", patience, func() bool { return p.reservations("shared") == 1 })
	p.eventually("radosgw has ended the reservation", 150*time.Second+patience, func() bool { return p.reservations("shared") == 0 })
	if err := end(true); err != nil {
		t.Fatal(err)
	}
	p.eventually("the event came", patience, func() bool { return len(p.receiver.of("hbucket")) == 1 })
	if r := p.receiver.all()[0]; r.byHerald || r.S3.Object.Key != "long" {
		t.Errorf("came by Herald %v: %s", r.byHerald, r.raw)
	}
}

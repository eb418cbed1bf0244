package notifications

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"herald/tests/gatewaytest"
)

// shortDays make a day of lifecycle rules last a second.
var shortDays = []string{"--lc-debug-interval", "1s"}

// afterADay is a rule that ends all objects.
var afterADay = types.LifecycleRule{Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)}}

// needShared skips a test of gateways that share a store.
func needShared(t *testing.T) {
	t.Helper()
	if gatewaytest.Store() == "posix" || gatewaytest.Queue() == "embedded" {
		t.Skip("gateways share a store only in RADOS, with queues on a server")
	}
}

// beside starts another gateway on the store of e.
func (e *env) beside(args ...string) *env {
	e.t.Helper()
	g := gatewaytest.Start(e.t, gatewaytest.Options{Args: args, Env: e.g.Place()})
	return (&env{t: e.t, g: g}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
}

// ended is what the gateway's metrics tell of one kind of what rules ended.
func (e *env) ended(what string) int {
	e.t.Helper()
	resp, err := http.Get(e.g.Ops + "/metrics")
	e.check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	e.check(err)
	m := regexp.MustCompile(`(?m)^herald_lifecycle_total\{what="` + what + `"\} (\d+)$`).FindSubmatch(body)
	if m == nil {
		e.t.Fatalf("no herald_lifecycle_total of %s", what)
	}
	n, err := strconv.Atoi(string(m[1]))
	e.check(err)
	return n
}

// wantAll waits until each key has its event of each of RGW's two families, and
// fails if there is an event that nothing caused.
func (r *receiver) wantAll(e *env, keys []string) (events int) {
	e.t.Helper()
	want := append(perEvent("ObjectLifecycle:Expiration:Current", keys), perEvent("LifecycleExpiration:Delete", keys)...)
	seen := func() map[string]bool {
		names := map[string]bool{}
		for _, n := range r.names() {
			names[n] = true
		}
		return names
	}
	e.eventually("every object has its events", func() bool { return len(seen()) >= len(want) })
	names := seen()
	for _, n := range want {
		delete(names, n)
	}
	if len(names) > 0 {
		e.t.Errorf("events of what never was: %v", names)
	}
	return len(r.all())
}

// TestLifecycleTwoGateways: two gateways on one store share its buckets out, and
// each object that expires has its events once.
func TestLifecycleTwoGateways(t *testing.T) {
	needShared(t)
	one := newEnv(t, shortDays...)
	other := one.beside(shortDays...)
	r := newReceiver(t)
	topic := one.topic("t", r.URL, "persistent", "true")
	const buckets, objects = 5, 12
	var names, all []string
	for b := range buckets {
		bucket := one.bucket()
		names = append(names, bucket)
		one.notify(bucket, "n", topic, lifecycleEvents, expiredByName)
		other.seen("notification", func() error {
			if len(other.notifications(bucket)) == 0 {
				return errors.New("there is none")
			}
			return nil
		})
		for i := range objects {
			key := fmt.Sprintf("b%d-%d", b, i)
			[]*env{one, other}[i%2].put(bucket, key, "x")
			all = append(all, key)
		}
		one.lifecycle(bucket, afterADay)
	}
	r.wantAll(one, all)
	for _, bucket := range names { // it takes another round to end these
		other.put(bucket, "z-"+bucket, "x")
		all = append(all, "z-"+bucket)
	}
	r.wantAll(one, all)
	one.drained("t")
	if n := len(r.all()); n != 2*len(all) {
		t.Errorf("%d events arrived, want %d", n, 2*len(all))
	}
	var mine, theirs int
	one.eventually("each object is counted", func() bool {
		mine, theirs = one.ended("current"), other.ended("current")
		return mine+theirs >= len(all)
	})
	t.Logf("of %d objects one gateway ended %d, the other %d", len(all), mine, theirs)
	if mine+theirs != len(all) || one.ended("failed")+other.ended("failed") > 0 {
		t.Errorf("%d and %d objects were ended, want %d; %d and %d failures", mine, theirs, len(all), one.ended("failed"), other.ended("failed"))
	}
}

// doomed starts a gateway that dies when it has put that many objects and its
// round has ended some of them.
func doomed(t *testing.T, objects int) *env {
	t.Helper()
	g := gatewaytest.Start(t, gatewaytest.Options{
		Args: append([]string{"--queue-lease", gatewaytest.QueueLease.String()}, shortDays...),
		Env:  []string{fmt.Sprintf("HERALD_FAULT=notify.committed:%d", objects+objects/4)},
	})
	return (&env{t: t, g: g}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
}

// dieAmidRound has a doomed gateway put objects and rules, and waits until it is
// dead.
func (e *env) dieAmidRound(topic string, objects int) (bucket string, names []string) {
	e.t.Helper()
	bucket = e.bucket()
	e.notify(bucket, "n", topic, lifecycleEvents, expiredByName)
	names = keys("k", objects)
	for _, k := range names {
		e.put(bucket, k, "x")
	}
	e.lifecycle(bucket, afterADay)
	select {
	case <-e.g.Done():
	case <-time.After(patience):
		e.t.Fatal("the gateway did not come so far")
	}
	return bucket, names
}

// TestLifecycleTakenOver: another gateway on the store goes on with the bucket of
// one that died.
func TestLifecycleTakenOver(t *testing.T) {
	needShared(t)
	const objects = 40
	e := doomed(t, objects)
	other := e.beside(shortDays...)
	e.check(other.g.Pause()) // so that the first one has the bucket
	r := newReceiver(t)
	topic := e.topic("t", r.URL, "persistent", "true")
	bucket, names := e.dieAmidRound(topic, objects)
	e.check(other.g.Resume())
	n := r.wantAll(other, names)
	t.Logf("%d events of %d objects; the second gateway ended %d", n, objects, other.ended("current"))
	other.eventually("nothing is left", func() bool { versions, _ := other.versions(bucket); return versions == 0 })
	other.drained("t")
}

// TestLifecycleKilled: a gateway that is killed while it expires loses no event,
// and goes on when it is back.
func TestLifecycleKilled(t *testing.T) {
	const objects = 40
	e := doomed(t, objects)
	r := newReceiver(t)
	bucket, names := e.dieAmidRound(e.topic("t", r.URL, "persistent", "true"), objects)
	e.g.SetEnv()
	e.check(e.g.Run())
	r.wantAll(e, names)
	e.eventually("nothing is left", func() bool { versions, _ := e.versions(bucket); return versions == 0 })
	e.drained("t")
}

// TestLifecycleSilent: an endpoint that never answers takes as long for each
// object as a push may take. Other buckets do not wait for that.
func TestLifecycleSilent(t *testing.T) {
	const objects = 5
	e := newEnv(t, append([]string{"--http-message-timeout", patience.String()}, shortDays...)...)
	topic := e.topic("t", silent(t))
	stuck, other := e.bucket(), e.bucket()
	e.notify(stuck, "n", topic, lifecycleEvents)
	for _, bucket := range []string{stuck, other} {
		for _, k := range keys("k", objects) {
			e.put(bucket, k, "x")
		}
	}
	e.lifecycle(stuck, afterADay)
	e.eventually("the first object is on its way", func() bool { versions, _ := e.versions(stuck); return versions < objects })
	e.lifecycle(other, afterADay)
	e.eventually("the other bucket is empty", func() bool { versions, _ := e.versions(other); return versions == 0 })
	if versions, _ := e.versions(stuck); versions == 0 {
		t.Error("the endpoint did not hold up its own bucket")
	}
	e.g.Kill() // it would wait for the push
}

package notify

import "testing"

type sharedThing struct{ closed int }

func (s *sharedThing) Close() error { s.closed++; return nil }

func TestTakeShared(t *testing.T) {
	var p shared
	made := 0
	open := func() *sharedThing { made++; return &sharedThing{} }
	a, dropA := takeShared(&p, "k", open)
	b, dropB := takeShared(&p, "k", open)
	other, dropOther := takeShared(&p, "other", open)
	if a != b || a == other || made != 2 {
		t.Fatalf("one key: %t, two keys: %t, made %d; want true, false, 2", a == b, a == other, made)
	}
	_ = dropA()
	_ = dropA() // the second time nothing
	if a.closed != 0 {
		t.Error("closed while one still uses it")
	}
	_ = dropB()
	_ = dropOther()
	if a.closed != 1 || other.closed != 1 || len(p.by) != 0 {
		t.Errorf("closed %d and %d times, %d left; want 1, 1, 0", a.closed, other.closed, len(p.by))
	}
	if again, drop := takeShared(&p, "k", open); again == a {
		t.Error("a closed one is handed out")
	} else {
		_ = drop()
	}
	alone, drop := takeShared[*sharedThing](nil, "k", open)
	_, _ = drop(), drop()
	if alone.closed != 1 {
		t.Errorf("one that is not shared was closed %d times, want 1", alone.closed)
	}
}

func TestSharedKey(t *testing.T) {
	base := Endpoint{URL: "nats://h", Args: "verify-ssl=true&ca-location=/a"}
	if got := base.sharedKey("verify-ssl"); got != (&Endpoint{URL: "nats://h", Args: "verify-ssl=true&ca-location=/b"}).sharedKey("verify-ssl") {
		t.Errorf("key %s holds what was not asked for", got)
	}
	for name, e := range map[string]Endpoint{
		"URL":      {URL: "nats://h2", Args: base.Args},
		"argument": {URL: base.URL, Args: "verify-ssl=false"},
		"dial":     {URL: base.URL, Args: base.Args, DialName: "x"},
	} {
		if e.sharedKey("verify-ssl") == base.sharedKey("verify-ssl") {
			t.Errorf("another %s has the same key", name)
		}
	}
}

package notify

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func outbound(t testing.TB, allow ...string) *Outbound {
	t.Helper()
	o, err := ParseOutbound(allow)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOutbound_Addresses has what the policy denies as it is, and what it does
// not.
func TestOutbound_Addresses(t *testing.T) {
	o := outbound(t)
	for ip, want := range map[string]string{
		"8.8.8.8": "", "1.1.1.1": "", "172.32.0.1": "", "100.128.0.1": "", "192.167.255.255": "", "223.255.255.255": "",
		"2606:4700::1111": "", "2a00:1450::1": "", "64:ff9b::808:808": "", "2002:808:808::1": "",
		"127.0.0.1": kindLoopback, "127.255.255.254": kindLoopback, "::1": kindLoopback,
		"::ffff:127.0.0.1": kindLoopback, "::127.0.0.1": kindLoopback, "64:ff9b::7f00:1": kindLoopback, "2002:7f00:1::": kindLoopback,
		"0.0.0.0": kindNone, "0.1.2.3": kindNone, "::": kindNone,
		"10.0.0.1": kindPrivate, "172.16.0.1": kindPrivate, "172.31.255.255": kindPrivate, "192.168.1.1": kindPrivate,
		"100.64.0.1": kindPrivate, "100.127.255.255": kindPrivate, "fd00::1": kindPrivate, "fc00::1": kindPrivate, "fec0::1": kindPrivate,
		"::ffff:10.0.0.1": kindPrivate, "::ffff:a00:1": kindPrivate, "64:ff9b::a00:1": kindPrivate, "2002:a00:1::5": kindPrivate,
		"169.254.1.1": kindLink, "fe80::1": kindLink, "fe80::1%eth0": kindLink,
		"169.254.169.254": kindMetadata, "::ffff:169.254.169.254": kindMetadata, "64:ff9b::a9fe:a9fe": kindMetadata,
		"fd00:ec2::254": kindMetadata, "100.100.100.200": kindMetadata, "168.63.129.16": kindMetadata,
		"224.0.0.1": kindMany, "239.1.1.1": kindMany, "255.255.255.255": kindMany, "ff02::1": kindMany,
		"240.0.0.1": kindReserved, "192.0.2.1": kindReserved, "198.18.0.1": kindReserved, "64:ff9b:1::a00:1": kindReserved,
		"2001::1": kindReserved, "2001:db8::1": kindReserved, "100::1": kindReserved, "4000::1": kindReserved,
	} {
		err := o.check("host.example", ip, "80")
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrEndpointDenied) || !strings.Contains(err.Error(), want)) {
			t.Errorf("check(%s) = %v, want %q", ip, err, want)
		}
	}
}

// TestOutbound_Allow has each form of what can be allowed.
func TestOutbound_Allow(t *testing.T) {
	for _, c := range []struct{ allow, host, ip, port, want string }{
		{"10.1.0.0/16", "x.example", "10.1.2.3", "80", "yes"},
		{"10.1.0.0/16", "x.example", "10.2.2.3", "80", "no"},
		{"10.1.0.0/16", "x.example", "::ffff:10.1.2.3", "80", "yes"},
		{"::ffff:10.1.0.0/112", "x.example", "10.1.2.3", "80", "yes"},
		{"10.1.0.0/16:9092", "x.example", "10.1.2.3", "9092", "yes"},
		{"10.1.0.0/16:9092", "x.example", "10.1.2.3", "22", "no"},
		{"127.0.0.1", "127.0.0.1", "127.0.0.1", "1", "yes"},
		{"127.0.0.1:8080", "127.0.0.1", "127.0.0.1", "8081", "no"},
		{"fd00::1", "x.example", "fd00::1", "80", "yes"},
		{"[fd00::1]:80", "x.example", "fd00::1", "80", "yes"},
		{"[fd00::1]:80", "x.example", "fd00::1", "81", "no"},
		{"[fd00::/64]:80", "x.example", "fd00::9", "80", "yes"},
		{"loopback", "x.example", "127.3.0.1", "80", "yes"},
		{"loopback", "x.example", "::1", "80", "yes"},
		{"loopback", "x.example", "10.0.0.1", "80", "no"},
		{"loopback:80", "x.example", "127.0.0.1", "81", "no"},
		{"private", "x.example", "192.168.0.1", "80", "yes"},
		{"private", "x.example", "100.100.100.200", "80", "no"},
		{"private", "x.example", "169.254.169.254", "80", "no"},
		{"Broker.example", "broker.EXAMPLE.", "10.0.0.1", "80", "yes"},
		{"broker.example", "evil.example", "10.0.0.1", "80", "no"},
		{"broker.example:9092", "broker.example", "10.0.0.1", "80", "no"},
		{"*.svc.local", "a.b.svc.local", "10.0.0.1", "80", "yes"},
		{"*.svc.local", "svc.local", "10.0.0.1", "80", "no"},
		{"*.svc.local", "evilsvc.local", "10.0.0.1", "80", "no"},
		{"*", "x", "169.254.169.254", "80", "yes"},
		{"*:443", "x", "10.0.0.1", "443", "yes"},
		{"*:443", "x", "10.0.0.1", "80", "no"},
	} {
		err := outbound(t, c.allow).check(c.host, c.ip, c.port)
		if (err == nil) != (c.want == "yes") {
			t.Errorf("%s: check(%s, %s, %s) = %v, want %s", c.allow, c.host, c.ip, c.port, err, c.want)
		}
	}
	for _, bad := range []string{"", ":80", "10.0.0.0/40", "10.0.0", "300.1.1.1", "a b", "http://x", "x:0", "x:99999", "x:+1", "fd00::/64:80:90", "*.", "[fd00::1", "10.0.0.0/8/9", "a..b"} {
		if _, err := ParseOutbound([]string{bad}); err == nil {
			t.Errorf("ParseOutbound(%q) succeeded", bad)
		}
	}
}

// TestOutbound_URL has endpoints that name a denied address.
func TestOutbound_URL(t *testing.T) {
	o := outbound(t, "127.0.0.1:9092")
	for endpoint, denied := range map[string]bool{
		"http://127.0.0.1/": true, "http://127.0.0.1:9092/x": false, "kafka://127.0.0.1": false, "amqp://127.0.0.1": true,
		"http://localhost:1/": true, "http://LOCALHOST./": true, "http://a.localhost/": true, "kafka://localhost": false, "http://[::1]/": true, "http://[::ffff:7f00:1]/": true,
		"http://user:secret@10.0.0.1/": true, "http://broker.example/": false, "http://8.8.8.8/": false,
		"kafka://8.8.8.8:9092,10.0.0.1:9092": true, "http://[fe80::1%25eth0]/": true,
	} {
		err := o.checkURL(endpoint)
		if errors.Is(err, ErrEndpointDenied) != denied {
			t.Errorf("checkURL(%s) = %v, want denied: %v", endpoint, err, denied)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is in %v", err)
		}
	}
}

// TestOutbound_Dial has the policy hold where a connection is made, whatever
// name leads there, and not for those who are trusted.
func TestOutbound_Dial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, c := range []struct {
		allow   []string
		trusted bool
		ok      bool
	}{{nil, false, false}, {nil, true, true}, {[]string{"loopback"}, false, true}, {[]string{"localhost:" + port}, false, true}} {
		dial := outbound(t, c.allow...).dialer(net.Dialer{Timeout: 30 * time.Second}, func(context.Context) bool { return c.trusted })
		conn, err := dial(t.Context(), "tcp", "localhost:"+port)
		if c.ok && err != nil || !c.ok && !errors.Is(err, ErrEndpointDenied) {
			t.Errorf("%+v: dial = %v", c, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
	dial := outbound(t, "loopback").dialer(net.Dialer{}, func(context.Context) bool { return false })
	if _, err := dial(t.Context(), "unix", "/var/run/docker.sock"); err == nil {
		t.Error("a Unix socket was dialled")
	}
}

// TestOutbound_Service has one topic of a user and one of an administrator: the
// former's event waits, and readiness says why.
func TestOutbound_Service(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	opt := quick()
	opt.Outbound = outbound(t)
	r := newRig(t, opt)
	r.s.cfg.Trusted = func(_ context.Context, uid string) bool { return uid == "root" }
	denied := r.topic("denied", server.URL, "persistent", "true")
	for by, want := range map[string]bool{"": false, "bob": false, "root": true} {
		topic := *denied
		if by != "" {
			topic.SetNamedBy(by)
		}
		if err := r.s.CheckEndpoint(r.ctx, &topic); (err == nil) != want {
			t.Errorf("named by %q: %v", by, err)
		}
		p, err := r.s.open(r.s.endpoint(&topic))
		if err != nil {
			t.Fatal(err)
		}
		res := p.Push(r.ctx, []Event{{Record: []byte("{}")}})[0]
		if (res.Status == Acked) != want || !want && !errors.Is(res.Err, ErrEndpointDenied) {
			t.Errorf("named by %q: push = %v", by, res)
		}
		_ = p.Close()
	}
	health, err := r.s.Health(r.ctx)
	if err != nil || len(health) != 1 || health[0].Ready || !strings.Contains(health[0].Detail, "notify.endpoint_allow") {
		t.Errorf("health = %+v, %v", health, err)
	}
}

// TestOutbound_OtherURLs: an endpoint may name more than one place.
func TestOutbound_OtherURLs(t *testing.T) {
	opt := quick()
	opt.Outbound = outbound(t)
	r := newRig(t, opt)
	for _, tt := range []struct {
		arg, value string
		denied     bool
	}{
		{"kafka-brokers", "8.8.4.4, 10.0.0.1:9092", true},
		{"kafka-brokers", "8.8.4.4,,b.example:9093", false},
		{argTokenURL, "http://169.254.169.254/token", true},
		{argTokenURL, "https://id.example/token", false},
	} {
		topic, err := NewTopic("default", "", "t", "bob", map[string]string{AttrPushEndpoint: "kafka://8.8.8.8", tt.arg: tt.value})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.s.CheckEndpoint(r.ctx, topic); errors.Is(err, ErrEndpointDenied) != tt.denied {
			t.Errorf("CheckEndpoint with %s=%s = %v, want denied: %v", tt.arg, tt.value, err, tt.denied)
		}
	}
}

// FuzzParseOutbound: what was read can be asked anything.
func FuzzParseOutbound(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "[fd00::1]:80", "*.svc.local:443", "loopback", "*", "::ffff:1.2.3.4/120", "x:1"} {
		f.Add(s, "10.0.0.1", "x")
	}
	f.Fuzz(func(t *testing.T, s, ip, host string) {
		o, err := ParseOutbound([]string{s})
		if err != nil {
			return
		}
		err = o.check(host, ip, "80")
		if a, bad := netip.ParseAddr(ip); bad != nil && err == nil {
			t.Errorf("%q is allowed", ip)
		} else if bad == nil && addressKind(a) == "" && err != nil {
			t.Errorf("%s is denied: %v", ip, err)
		}
	})
}

package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// ErrEndpointDenied: the endpoint is at an address that its topic's owner may
// not have the gateway connect to.
var ErrEndpointDenied = errors.New("the endpoint's address is not allowed")

// Outbound is the policy on where endpoints may be. Whoever may make a topic
// chooses what the gateway connects to, and the gateway may stand where he does
// not: so only addresses of the public Internet are allowed, and those that the
// operator allows. The zero value allows nothing else. It is never changed.
type Outbound struct {
	// Files is the directory whose files endpoints may name, certificates and
	// the like; empty: they may name none.
	Files string

	allow []allowed
}

// deniedError says what was refused and how to allow it.
type deniedError struct{ what, why string }

// Error implements error.
func (e *deniedError) Error() string {
	return fmt.Sprintf("%s: %s is %s (the option notify.endpoint_allow allows it)", ErrEndpointDenied, e.what, e.why)
}

// Unwrap makes it an ErrEndpointDenied.
func (e *deniedError) Unwrap() error { return ErrEndpointDenied }

// ParseOutbound makes a policy of what it is to allow:
//
//	192.0.2.1, 10.1.0.0/16       addresses
//	broker.example, *.svc.local  host names as the endpoint has them, whatever
//	                             addresses they have; "*.svc.local" are all
//	                             names below svc.local
//	loopback, private            all such addresses
//	*                            everything
//
// each may be followed by a port: "10.1.0.0/16:9092", "[fd00::1]:80", "*:443".
func ParseOutbound(list []string) (*Outbound, error) {
	o := &Outbound{}
	for _, s := range list {
		a, err := parseAllowed(s)
		if err != nil {
			return nil, err
		}
		o.allow = append(o.allow, a)
	}
	return o, nil
}

// check tells whether a connection to host, which was resolved to the address
// ip:port, may be made. Errors: ErrEndpointDenied.
func (o *Outbound) check(host, ip, port string) error {
	addr, err := parseAddr(ip)
	if err != nil {
		return &deniedError{ip, "no address"}
	}
	kind := addressKind(addr)
	if kind == "" {
		return nil
	}
	for i := range o.allow {
		if o.allow[i].match(host, addr, kind, port) {
			return nil
		}
	}
	return &deniedError{addr.String(), kind}
}

// dialer returns a function for Endpoint.Dial that asks free, at each
// connection, whether the policy holds.
func (o *Outbound) dialer(dialer net.Dialer, free func(context.Context) bool) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if free(ctx) {
			return dialer.DialContext(ctx, network, addr)
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		d := dialer
		// On the address that is connected to: a name may have another one
		// each time it is looked up.
		d.Control = func(network, address string, _ syscall.RawConn) error {
			ip, port, err := net.SplitHostPort(address)
			if err != nil || !strings.HasPrefix(network, "tcp") {
				return &deniedError{address, "no TCP address"}
			}
			return o.check(host, ip, port)
		}
		conn, err := d.DialContext(ctx, network, addr)
		if denied := (*deniedError)(nil); errors.As(err, &denied) {
			return nil, denied
		}
		return conn, err
	}
}

// checkURL refuses an endpoint that names a denied address itself. A host name
// is looked up when it is connected to, not here. Errors: ErrEndpointDenied.
func (o *Outbound) checkURL(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ErrInvalidEndpoint // its text may hold a password
	}
	for hostport := range strings.SplitSeq(u.Host, ",") { // brokers may be several
		one := url.URL{Host: strings.TrimSpace(hostport)}
		host, port := one.Hostname(), cmp.Or(one.Port(), defaultPort(u.Scheme))
		if isLocalhost(host) {
			host = "127.0.0.1"
		}
		if _, err := parseAddr(host); err != nil {
			continue
		}
		if err := o.check(one.Hostname(), host, port); err != nil {
			return err
		}
	}
	return nil
}

// isLocalhost: names that RFC 6761 has for loopback.
func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func defaultPort(scheme string) string {
	switch strings.ToLower(scheme) {
	case "http":
		return "80"
	case "https":
		return "443"
	case "amqp":
		return "5672"
	case "amqps":
		return "5671"
	case "kafka":
		return "9092"
	case "nats", "natss", "tls":
		return "4222"
	case "mqtt":
		return "1883"
	case "mqtts":
		return "8883"
	case "redis", "rediss":
		return "6379"
	}
	return ""
}

// CheckEndpoint refuses a topic whose endpoint names a denied address itself, or
// a denied file, so that who makes it learns at once.
// Errors: ErrEndpointDenied, ErrFileDenied.
func (s *Service) CheckEndpoint(ctx context.Context, t *Topic) error {
	if s.opt.Outbound == nil || s.trusts(ctx, t.namedBy()) {
		return nil
	}
	if err := s.opt.Outbound.checkFiles(t); err != nil || t.Dest.PushEndpoint == "" {
		return err
	}
	if err := s.opt.Outbound.checkURL(t.Dest.PushEndpoint); err != nil {
		return err
	}
	others := []string{t.Arg(argTokenURL)}
	for broker := range strings.SplitSeq(t.Arg("kafka-brokers"), ",") {
		others = append(others, "kafka://"+strings.TrimSpace(broker))
	}
	for _, u := range others {
		if err := s.opt.Outbound.checkURL(u); errors.Is(err, ErrEndpointDenied) {
			return err
		}
	}
	return nil
}

// dial is how the connections to a topic's endpoint are made; nil: as usual.
func (s *Service) dial(t *Topic) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.opt.Outbound == nil {
		return nil
	}
	uid := t.namedBy()
	return s.opt.Outbound.dialer(
		net.Dialer{Timeout: s.opt.ConnectTimeout, KeepAlive: keepAlive},
		func(ctx context.Context) bool { return s.trusts(ctx, uid) },
	)
}

// dialName: only endpoints of one user share connections, where it matters.
func (s *Service) dialName(t *Topic) string {
	if s.opt.Outbound == nil {
		return ""
	}
	return t.namedBy()
}

// trusts tells whether a user's endpoints may be anywhere.
func (s *Service) trusts(ctx context.Context, uid string) bool {
	return uid != "" && s.cfg.Trusted != nil && s.cfg.Trusted(ctx, uid)
}

// namedBy is the user whose rights the endpoint has: who named it last.
func (t *Topic) namedBy() string { return cmp.Or(t.Dest.NamedBy, t.Owner) }

// SetNamedBy notes who named the topic's endpoint, or changed how it is
// connected to: that user's rights say where it may be.
func (t *Topic) SetNamedBy(uid string) {
	t.Dest.NamedBy = uid
	if uid == t.Owner {
		t.Dest.NamedBy = ""
	}
}

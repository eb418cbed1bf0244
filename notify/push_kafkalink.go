package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaLink is what is known of a client's connections: pushes do not wait for
// brokers that cannot be reached. It is told by the client.
type kafkaLink struct {
	patience time.Duration // so long brokers may not be reachable

	mu    sync.Mutex // guards all below
	open  map[net.Conn]bool
	since time.Time // since when there is none and none can be made; zero: not so
	err   error     // of the last attempt, while there is no connection
	down  chan struct{}
}

var (
	_ kgo.HookBrokerConnect    = (*kafkaLink)(nil)
	_ kgo.HookBrokerDisconnect = (*kafkaLink)(nil)
)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (l *kafkaLink) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		if l.open == nil {
			l.open = make(map[net.Conn]bool)
		}
		l.open[conn] = true
		l.since, l.err = time.Time{}, nil
		return
	case errors.Is(err, context.Canceled): // by a push that ended
		return
	}
	l.err = err
	if len(l.open) > 0 {
		return
	}
	if l.since.IsZero() {
		l.since = time.Now()
	}
	if time.Since(l.since) >= l.patience || lasting(err) {
		close(l.down)
		l.down = make(chan struct{})
	}
}

// lasting: the same would come of another attempt.
func lasting(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		remote      *net.OpError
	)
	return errors.Is(err, kerr.SaslAuthenticationFailed) || errors.As(err, &certificate) ||
		errors.As(err, &remote) && remote.Op == "remote error" // TLS: the broker wants no such client
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (l *kafkaLink) OnBrokerDisconnect(_ kgo.BrokerMetadata, conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// broken is closed when no broker could be reached once more, and for long.
func (l *kafkaLink) broken() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// explain says why a push failed that the broker has not answered.
func (l *kafkaLink) explain(err error) error {
	l.mu.Lock()
	last := l.err
	l.mu.Unlock()
	switch {
	case errors.Is(last, kerr.SaslAuthenticationFailed):
		return errKafkaLogin
	case last != nil:
		return fmt.Errorf("%w: %w", errKafkaDown, last)
	case errors.Is(err, context.DeadlineExceeded):
		return errKafkaSilent
	}
	return err
}

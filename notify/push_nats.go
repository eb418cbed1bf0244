package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// natsPusher publishes each event to a subject. With JetStream an event is acked
// when a stream has stored it; without, when the server has read it.
type natsPusher struct {
	subject, stream string
	durable         bool
	timeout         time.Duration
	link            *natsLink
	letGo           func() error
}

var _ Pusher = (*natsPusher)(nil)

// newNATSPusher makes one. It connects when there is something to send.
// Errors: ErrInvalidEndpoint.
func newNATSPusher(e Endpoint, u *url.URL) (*natsPusher, error) {
	s, err := natsSettingsOf(&e, u)
	if err != nil {
		return nil, err
	}
	key := e.sharedKey(append(natsArgs[:], tlsArgs[:]...)...)
	if !s.durable {
		// A server's refusal to publish names no message: all on the connection
		// must be of one subject.
		key += " " + s.subject
	}
	p := &natsPusher{subject: s.subject, stream: s.stream, durable: s.durable, timeout: e.Timeout}
	p.link, p.letGo = takeShared(e.shared, key, func() *natsLink { return newNATSLink(e, s) })
	return p, nil
}

// Close implements Pusher.
func (p *natsPusher) Close() error { return p.letGo() }

// Push implements Pusher.
func (p *natsPusher) Push(ctx context.Context, events []Event) []Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	send := p.sendDurable
	if !p.durable {
		send = p.sendCore
	}
	return pushInOrder(events, func(wave []int, results []Result) {
		c, err := p.link.get(ctx)
		if err != nil {
			for _, i := range wave {
				results[i] = Result{Retry, err}
			}
			return
		}
		send(ctx, c, events, wave, results)
	})
}

// sendDurable publishes events and waits until each is acknowledged by a stream.
func (p *natsPusher) sendDurable(ctx context.Context, c *natsConn, events []Event, wave []int, results []Result) {
	one := func(i int) {
		if status, err := p.request(ctx, c, &events[i]); err != nil {
			results[i] = Result{status, err}
		}
	}
	if len(wave) == 1 {
		one(wave[0])
		return
	}
	var wg sync.WaitGroup
	for _, i := range wave {
		wg.Go(func() { one(i) })
	}
	wg.Wait()
}

// request publishes one event and waits for its acknowledgement.
func (p *natsPusher) request(ctx context.Context, c *natsConn, e *Event) (Status, error) {
	if err := p.link.acquire(ctx); err != nil {
		return Retry, natsError(err)
	}
	defer p.link.release()
	msg := p.message(e, true)
	if p.stream != "" {
		msg.Header.Set(nats.ExpectedStreamHdr, p.stream)
	}
	answer, err := c.request(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return Rejected, fmt.Errorf("the event has more than the %d bytes that the server takes", c.nc.MaxPayload())
	case errors.Is(err, nats.ErrNoResponders):
		return Retry, fmt.Errorf("no stream takes subject %q, or the account has no JetStream", p.subject)
	case err != nil:
		return Retry, natsError(err)
	}
	return natsAck(answer.Data, p.stream)
}

// sendCore publishes events and waits until the server has read them all.
func (p *natsPusher) sendCore(ctx context.Context, c *natsConn, events []Event, wave []int, results []Result) {
	var sent []int
	err := c.guarded(ctx, func() error {
		headers := c.nc.HeadersSupported()
		for _, i := range wave {
			err := c.nc.PublishMsg(p.message(&events[i], headers))
			if errors.Is(err, nats.ErrMaxPayload) {
				results[i] = Result{Rejected, fmt.Errorf("the event has more than the %d bytes that the server takes", c.nc.MaxPayload())}
				continue
			}
			if err != nil {
				return err
			}
			sent = append(sent, i)
		}
		if len(sent) == 0 {
			return nil
		}
		if err := c.nc.FlushWithContext(ctx); err != nil {
			return err
		}
		// What it refused to publish it said before it answered; another push may
		// have seen that first, and ended the connection.
		if err := c.nc.LastError(); err != nil {
			return err
		}
		if c.broken() {
			return errNATSBroken
		}
		return nil
	})
	if err == nil {
		return
	}
	p.link.failed(c, err)
	for _, i := range wave {
		if results[i].Status != Rejected {
			results[i] = Result{Retry, natsError(err)}
		}
	}
}

// message is what is published.
func (p *natsPusher) message(e *Event, headers bool) *nats.Msg {
	msg := &nats.Msg{Subject: p.subject, Data: e.Message()}
	if !headers {
		return msg
	}
	// By its ID a stream knows what it has already.
	msg.Header = nats.Header{"Content-Type": {"application/json"}, nats.MsgIdHdr: {e.ID}}
	if e.TraceParent != "" {
		msg.Header.Set("traceparent", e.TraceParent)
		if e.TraceState != "" {
			msg.Header.Set("tracestate", e.TraceState)
		}
	}
	return msg
}

// jsMessageTooLarge is JetStream's error for a message that is larger than its
// stream takes.
const jsMessageTooLarge = 10054

// natsAck reads a stream's answer to a publication. Anything but its word that
// the event is stored is a failure.
func natsAck(data []byte, wanted string) (Status, error) {
	var answer struct {
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Error  *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return Retry, errors.New("what answered is no stream")
	}
	switch {
	case answer.Error != nil && answer.Error.Code == jsMessageTooLarge:
		return Rejected, errors.New("the event is larger than the stream takes")
	case answer.Error != nil:
		return Retry, fmt.Errorf("the stream refused the event: %s (error %d)", tidy(answer.Error.Description), answer.Error.Code)
	case answer.Stream == "" || answer.Seq == 0:
		return Retry, errors.New("what answered is no stream")
	case wanted != "" && answer.Stream != wanted:
		return Retry, fmt.Errorf("the event is in stream %s", tidy(answer.Stream))
	}
	return Acked, nil
}

// natsError makes an error of the client library one that may be logged: it may
// have what a server said in it.
func natsError(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, nats.ErrSecureConnWanted):
		return errors.New("the server has no TLS, which the topic wants")
	}
	if gone(err) {
		return hungUp(err)
	}
	return errors.New(tidy(strings.TrimPrefix(err.Error(), "nats: ")))
}

// maxTidy is how much of a stranger's text is kept, in bytes.
const maxTidy = 200

// tidy makes a stranger's text fit for a line of a log.
func tidy(s string) string {
	if len(s) > maxTidy {
		s = s[:maxTidy] + "..."
	}
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

package notify

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpChannel is a channel of a connection, for one exchange and topic: what
// the broker has against one topic ends no other topic's channel. One goroutine
// writes to it, another one takes what the broker says.
type amqpChannel struct {
	l     *amqpLink
	ch    *amqp.Channel
	level amqpLevel

	calls chan *amqpCall
	slots chan struct{} // one taken for each call until it is settled
	dead  chan struct{} // closed when the channel has ended
	quit  sync.Once

	mu      sync.Mutex // guards all below
	pending map[uint64]*amqpCall
	tag     uint64 // of the last one that was published
	err     error  // why the channel ended
	ended   bool
}

// amqpCall is a message on its way.
type amqpCall struct {
	ctx      context.Context //nolint:containedctx // of the push that waits for it
	exchange string
	key      string
	message  amqp.Publishing
	done     chan Result // has room
	returned string      // why the broker gave it back; guarded by the channel's mu
}

// amqpUnconfirmed bounds the messages of a topic that the broker has not
// confirmed, those included that nobody waits for any more.
const amqpUnconfirmed = 1024

var (
	errNack      = errors.New("the broker refused the message")
	errConfirms  = errors.New("no confirmation by the broker")
	errAMQPEnded = errors.New("the channel was closed")
)

// tooLarge is how RabbitMQ says that a message is larger than its limit, at the
// end of a channel. The number is the message's size.
var tooLarge = regexp.MustCompile(`message size (\d+) .*larger than`)

// newAMQPChannel takes over a channel that is open. Nothing was published yet.
func newAMQPChannel(l *amqpLink, ch *amqp.Channel, level amqpLevel) *amqpChannel {
	c := &amqpChannel{
		l: l, ch: ch, level: level, calls: make(chan *amqpCall), slots: make(chan struct{}, amqpUnconfirmed),
		dead: make(chan struct{}), pending: make(map[uint64]*amqpCall),
	}
	// The library gives up on what it cannot hand over within a time: they have
	// room for all that can come. It hands over a return before the confirmation
	// of the same message.
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	returns := ch.NotifyReturn(make(chan amqp.Return, amqpUnconfirmed))
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, amqpUnconfirmed))
	if level == amqpNone { // nothing comes there
		go c.end(closes)
	} else {
		go c.settle(confirms, returns, closes)
	}
	go c.write()
	return c
}

// lost implements brokerLink.
func (c *amqpChannel) lost() <-chan struct{} { return c.dead }

// leave implements brokerLink.
func (c *amqpChannel) leave() {
	c.fail(errPusherClosed)
	go func() { _ = c.ch.Close() }() // ends with the connection at the latest
}

// send hands a call to the writer.
func (c *amqpChannel) send(ctx context.Context, call *amqpCall) error {
	select {
	case c.slots <- struct{}{}:
	default:
		return c.late(fmt.Errorf("%d messages are not confirmed yet", amqpUnconfirmed))
	}
	select {
	case c.calls <- call:
		return nil
	case <-c.dead:
		<-c.slots
		return c.reason()
	case <-ctx.Done():
		<-c.slots
		return c.late(ctx.Err())
	}
}

// late says what there was to wait for.
func (c *amqpChannel) late(err error) error {
	if blocked := c.l.blocked(); blocked != nil {
		return blocked
	}
	return fmt.Errorf("%w: %w", errConfirms, err)
}

// write publishes calls, one after another. A call that nobody waits for any
// more is not sent.
func (c *amqpChannel) write() {
	for {
		select {
		case <-c.dead:
			return
		case call := <-c.calls:
			if err := c.l.unblocked(call.ctx, c.dead); err != nil {
				c.finish(call, Result{Retry, err})
			} else {
				c.publish(call)
			}
		}
	}
}

func (c *amqpChannel) publish(call *amqpCall) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		c.finish(call, Result{Retry, c.reason()})
		return
	}
	c.tag++
	tag := c.tag
	if c.level != amqpNone {
		c.pending[tag] = call
	}
	c.mu.Unlock()
	err := c.ch.Publish(call.exchange, call.key, c.level == amqpRoutable, false, call.message)
	if err != nil {
		if !errors.Is(err, amqp.ErrClosed) {
			c.l.fail() // it may have been written in part
		}
		<-c.dead // what is pending fails with it
		if c.level == amqpNone {
			c.finish(call, Result{Retry, c.reason()})
		}
		return
	}
	if c.level == amqpNone {
		c.finish(call, Result{Status: Acked})
	}
}

// finish reports a call's result. It is called once for each.
func (c *amqpChannel) finish(call *amqpCall, r Result) {
	<-c.slots
	call.done <- r // has room
}

// settle takes what the broker says about messages, until the channel ends.
func (c *amqpChannel) settle(confirms <-chan amqp.Confirmation, returns <-chan amqp.Return, closes <-chan *amqp.Error) {
	for confirm := range confirms {
		c.takeReturns(returns)
		c.mu.Lock()
		call := c.pending[confirm.DeliveryTag]
		delete(c.pending, confirm.DeliveryTag)
		c.mu.Unlock()
		switch {
		case call == nil: // it failed with the channel
		case !confirm.Ack:
			c.finish(call, Result{Retry, errNack})
		case call.returned != "":
			c.finish(call, Result{Retry, errors.New(call.returned)})
		default:
			c.finish(call, Result{Status: Acked})
		}
	}
	c.end(closes)
}

// takeReturns marks the calls that the broker gave back: all attempts that are
// under way with one event, because a return does not name the attempt.
func (c *amqpChannel) takeReturns(returns <-chan amqp.Return) {
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				return
			}
			c.mu.Lock()
			for _, call := range c.pending {
				if call.message.MessageId == r.MessageId {
					call.returned = fmt.Sprintf("the broker returned the message: %d %s", r.ReplyCode, c.l.clean(r.ReplyText))
				}
			}
			c.mu.Unlock()
		default:
			return
		}
	}
}

// end waits for the library's report of the channel's end.
func (c *amqpChannel) end(closes <-chan *amqp.Error) {
	err := errAMQPEnded
	if e := <-closes; e != nil { // else closed by ourselves
		err = c.l.closeError(e)
		if e.Code == amqp.PreconditionFailed {
			c.rejectTooLarge(e.Reason)
		}
	}
	c.fail(err)
}

// rejectTooLarge ends the calls of which the broker said that they are too
// large; the others were lost with them and may be sent again.
func (c *amqpChannel) rejectTooLarge(reason string) {
	m := tooLarge.FindStringSubmatch(reason)
	if m == nil {
		return
	}
	size, err := strconv.Atoi(m[1])
	if err != nil {
		return
	}
	c.mu.Lock()
	var large []*amqpCall
	for tag, call := range c.pending {
		if len(call.message.Body) == size {
			large = append(large, call)
			delete(c.pending, tag)
		}
	}
	c.mu.Unlock()
	for _, call := range large {
		c.finish(call, Result{Rejected, fmt.Errorf("the broker takes no message of %d bytes", size)})
	}
}

// fail ends all calls that are pending. The first reason counts.
func (c *amqpChannel) fail(err error) {
	c.quit.Do(func() {
		c.mu.Lock()
		c.err, c.ended = err, true
		c.mu.Unlock()
		close(c.dead)
		c.l.release(c.l)
	})
	c.mu.Lock()
	pending := c.pending
	c.pending = make(map[uint64]*amqpCall)
	c.mu.Unlock()
	for _, call := range pending {
		c.finish(call, Result{Retry, c.reason()})
	}
}

func (c *amqpChannel) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
)

// errReply is behind every error about an answer that makes no sense.
var errReply = errors.New("unexpected reply of redis")

// errReplicas is the answer when fewer replicas than wanted have a change.
var errReplicas = errors.New("too few replicas have received the change")

// call is one command or script, sent until it is answered.
type call struct {
	script *script // nil: args are a command
	keys   []string
	args   []any

	reply          any
	err            error
	sent, answered time.Time // by this process's clock
}

func (c *call) command(eval bool) []any {
	if c.script == nil {
		return c.args
	}
	cmd := make([]any, 0, 3+len(c.keys)+len(c.args))
	if eval {
		cmd = append(cmd, "EVAL", c.script.text)
	} else {
		cmd = append(cmd, "EVALSHA", c.script.sha)
	}
	cmd = append(cmd, len(c.keys))
	for _, k := range c.keys {
		cmd = append(cmd, k)
	}
	return append(cmd, c.args...)
}

// exec sends calls to a node, together, once; but for scripts that the node
// does not have, which are sent again with their text. Each call has its reply
// or its error then.
func (d *Driver) exec(ctx context.Context, n *node, calls ...*call) {
	d.pipeline(ctx, n, false, calls)
	var unknown []*call
	for _, c := range calls {
		if c.err != nil && goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	if len(unknown) > 0 {
		d.pipeline(ctx, n, true, unknown)
	}
}

// pipeline sends calls in one go. Several are one transaction where they may
// be: a server reads a pipeline by pieces of some ten KiB and flushes its file
// after each, but a transaction as a whole.
func (d *Driver) pipeline(ctx context.Context, n *node, eval bool, calls []*call) {
	pipe := n.client.Pipeline()
	cmds := make([]*goredis.Cmd, len(calls))
	together := d.cluster == nil && len(calls) > 1
	if together {
		pipe.Do(ctx, "MULTI")
	}
	write := false
	sent := d.opts.Now()
	for i, c := range calls {
		c.sent = sent
		cmds[i] = pipe.Do(ctx, c.command(eval)...)
		write = write || c.script != nil && c.script.write
	}
	var exec, wait *goredis.Cmd
	if together {
		exec = pipe.Do(ctx, "EXEC")
	}
	if write && d.opts.WaitReplicas > 0 {
		wait = pipe.Do(ctx, "WAIT", d.opts.WaitReplicas, d.opts.WaitTimeout.Milliseconds())
	}
	_, failed := pipe.Exec(ctx) // each command that was sent has its own error
	answered := d.opts.Now()
	for i, c := range calls {
		c.answered = answered
		c.reply, c.err = cmds[i].Result()
		if c.reply == nil && c.err == nil {
			c.err = failed // while connecting, such as a wrong password
		}
		if together {
			c.reply, c.err = executed(exec, i, c.err)
		}
		if wait != nil && c.err == nil && c.script != nil && c.script.write {
			c.err = d.replicated(wait)
		}
	}
}

// executed is what a transaction answers to one of its commands. err is why the
// command was not queued.
func executed(exec *goredis.Cmd, i int, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	list, err := exec.Slice()
	switch {
	case err != nil:
		return nil, err
	case i >= len(list):
		return nil, errReply
	}
	if err, ok := list[i].(error); ok {
		return nil, err
	}
	return list[i], nil
}

func (d *Driver) replicated(wait *goredis.Cmd) error {
	n, err := wait.Int()
	if err != nil {
		return err
	}
	if n < d.opts.WaitReplicas {
		return fmt.Errorf("%w: %d of %d", errReplicas, n, d.opts.WaitReplicas)
	}
	return nil
}

// do sends a call until it is answered, or ctx is done. It does not wait for
// the network when ctx is done.
func (d *Driver) do(ctx context.Context, c *call) (any, *node, error) {
	var n *node
	err := d.retry(ctx, func() error {
		var err error
		if n, err = d.node(ctx, c.keys[0]); err != nil {
			return err
		}
		try := *c
		done := make(chan struct{})
		err = d.spawn(func() {
			defer close(done)
			d.exec(context.WithoutCancel(ctx), n, &try)
		})
		if err != nil {
			return err
		}
		select {
		case <-done:
			*c = try
			return try.err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return c.reply, n, err
}

// Pauses between tries.
const (
	minPause = 2 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// retry calls f until it succeeds, fails for good, or ctx is done.
func (d *Driver) retry(ctx context.Context, f func() error) error {
	var last error // why f did not succeed
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		if ctx.Err() != nil {
			return ended(ctx.Err(), last)
		}
		err := f()
		if !transient(err) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if d.cluster != nil {
			d.cluster.ReloadState(ctx)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-d.ctx.Done():
			timer.Stop()
			return ended(errClosed, last)
		}
		timer.Stop()
	}
}

// ended is the error of who has no more time.
func ended(err, last error) error {
	if last == nil || errors.Is(last, err) {
		return err
	}
	return fmt.Errorf("%w; the latest try: %w", err, last)
}

func isNil(err error) bool { return errors.Is(err, goredis.Nil) }

// transientWords begin, or are in, answers that a server gives for a while
// only: it starts, it was demoted, a slot moves, too few replicas are there, it
// refused another command of the transaction.
// Redis 6 wraps what a script's command answered. Never written.
var transientWords = [...]string{
	"MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "BUSY ", "NOSCRIPT",
	"UNBLOCKED", "max number of clients", "MISCONF", "EXECABORT",
}

// Full tells whether an error is a server's answer that it has no memory left
// (maxmemory), which passes when others, or deliveries, make room. No call is
// sent again for it: who writes is to know.
func Full(err error) bool {
	var answer goredis.Error
	return errors.As(err, &answer) && strings.Contains(answer.Error(), "OOM ")
}

// transient is whether a call may succeed when it is sent again.
func transient(err error) bool {
	switch {
	case err == nil, isNil(err), errors.Is(err, errClosed), errors.Is(err, goredis.ErrClosed), errors.Is(err, context.Canceled),
		errors.Is(err, errReply), errors.Is(err, queue.ErrNoSuchQueue), errors.Is(err, ErrNotDurable), errors.Is(err, errTooOld):
		return false
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return false
	}
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return true // no answer
	}
	for _, w := range transientWords {
		if strings.Contains(answer.Error(), w) {
			return true
		}
	}
	return false
}

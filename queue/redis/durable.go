package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ErrNotDurable is Open's answer, with RequireAOF, about a server that can lose
// what it acknowledged when its machine ends; and Reserve's, when such a server
// has become master since.
var ErrNotDurable = errors.New("redis is not durable")

var errTooOld = errors.New("this redis is too old")

// openTimeout is how long Open tries to reach a server.
const openTimeout = 30 * time.Second

// examine looks at every master: whether it is new enough, tells which history
// it has, and how durable it is.
func (d *Driver) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := d.clockOf(ctx, d.nameKeys()[0]); err != nil {
		return err
	}
	err := d.retry(ctx, func() error {
		info, faults, err := d.survey(ctx)
		d.mayInfo = info
		if err == nil && len(faults) > 0 && d.opts.RequireAOF {
			err = fmt.Errorf("%w, but that is required: %s", ErrNotDurable, strings.Join(faults, "; "))
		} else if err == nil && len(faults) > 0 {
			d.log.Warn("redis can lose acknowledged changes", "why", strings.Join(faults, "; "))
		}
		return err
	})
	if err == nil && !d.mayInfo {
		d.log.Warn("redis refuses INFO to this user: a failover that loses writes may not be noticed; allow +info")
	}
	return err
}

// survey asks every master whether INFO is allowed and what it can lose.
func (d *Driver) survey(ctx context.Context) (info bool, faults []string, err error) {
	var mu sync.Mutex // guards the results
	info = true
	err = d.eachMaster(ctx, func(ctx context.Context, client *goredis.Client) error {
		may, err := mayInfo(ctx, client)
		found, silent := weaknesses(ctx, client)
		err = errors.Join(err, silent)
		if may && err == nil {
			err = d.rewrite(ctx, client)
		}
		mu.Lock()
		defer mu.Unlock()
		info = info && may
		faults = append(faults, found...)
		return err
	})
	return info, faults, err
}

// surveyAgain looks at the masters when there is a new one, and tells what it
// can lose. Each term has that once.
func (d *Driver) surveyAgain(ctx context.Context, term string) {
	d.mu.Lock()
	seen := d.surveyed[term]
	d.surveyed[term] = true
	d.mu.Unlock()
	if seen {
		return
	}
	_, faults, err := d.survey(ctx)
	switch {
	case err != nil:
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.surveyed, term)
	case len(faults) > 0:
		d.log.Warn("redis has another master and can lose acknowledged changes", "why", strings.Join(faults, "; "),
			"refused", d.opts.RequireAOF)
		d.refuse(faults)
	}
}

// surveyPause is the pause between looks at a master that is refused.
const surveyPause = 2 * time.Second

// refuse has Reserve refuse, where that is wanted, until no master can lose
// anything.
func (d *Driver) refuse(faults []string) {
	if !d.opts.RequireAOF {
		return
	}
	err := fmt.Errorf("%w, but that is required: %s", ErrNotDurable, strings.Join(faults, "; "))
	if d.refused.Swap(&err) == nil {
		_ = d.spawn(d.untilDurable) // closed: nothing is reserved any more
	}
}

func (d *Driver) untilDurable() {
	timer := time.NewTimer(surveyPause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
		_, faults, err := d.survey(ctx)
		cancel()
		if err == nil && len(faults) == 0 {
			d.log.Info("redis is durable again")
			d.refused.Store(nil)
			return
		}
		timer.Reset(surveyPause)
	}
}

// durable is nil, or why nothing must be promised now.
func (d *Driver) durable() error {
	if err := d.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// clockOf returns the clock of the key's master, and measures it at first.
func (d *Driver) clockOf(ctx context.Context, key string) (*clock, error) {
	n, err := d.node(ctx, key)
	if err == nil && n.clock.known() {
		return &n.clock, nil
	}
	c := &call{keys: []string{key}, args: []any{"TIME"}}
	_, n, err = d.do(ctx, c)
	if err != nil {
		return nil, err
	}
	r := newReader(c.reply)
	seconds, micros := r.nextNumber(), r.nextNumber()
	if r.err != nil {
		return nil, r.err
	}
	n.clock.observe(c.sent, c.answered, seconds*1e6+micros)
	return &n.clock, nil
}

// mayInfo answers whether INFO is allowed. It fails when the server is too old.
func mayInfo(ctx context.Context, c *goredis.Client) (bool, error) {
	text, err := c.Info(ctx, "server").Result()
	if err != nil {
		if goredis.IsPermissionError(err) {
			return false, nil
		}
		return false, err
	}
	_, version, _ := strings.Cut(text, "redis_version:")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 6 {
		return false, fmt.Errorf("%w: %s; 6.0 or later is needed", errTooOld, strings.TrimSpace(strings.Split(version, "\r")[0]))
	}
	return true, nil
}

// rewrite has a server write its file anew, once after its start. One that was
// killed while it wrote a transaction leaves the transaction's beginning in the
// file when it starts, and does that with the next transaction when it starts
// once more (Redis 7.0.15; valkey-io/valkey#4342).
func (d *Driver) rewrite(ctx context.Context, c *goredis.Client) error {
	info, err := c.Info(ctx, "persistence").Result()
	if err != nil {
		return err
	}
	for _, line := range []string{"aof_enabled:1", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_rewrite_time_sec:-1"} {
		if !strings.Contains(info, line+"\r") {
			return nil
		}
	}
	err = c.BgRewriteAOF(ctx).Err()
	if err != nil && !transient(err) { // another gateway was first, or it is not allowed
		d.log.Info("redis does not write its file anew after its start", "server", c.Options().Addr, "err", err)
		return nil
	}
	return err
}

// wanted are the settings under which nothing acknowledged is lost. Never
// written.
var wanted = []struct{ name, value, why string }{
	{"appendonly", "yes", "changes are not written to a file"},
	{"appendfsync", "always", "the file is not flushed with each change"},
	{"no-appendfsync-on-rewrite", "no", "the file is not flushed while it is rewritten"},
	{"maxmemory-policy", "noeviction", "keys may be evicted"},
}

// weaknesses tells what a server can lose. Its error is that of a server that
// does not answer.
func weaknesses(ctx context.Context, c *goredis.Client) (found []string, err error) {
	addr := c.Options().Addr
	for _, w := range wanted {
		got, err := c.ConfigGet(ctx, w.name).Result()
		if err != nil && transient(err) {
			return nil, fmt.Errorf("settings of %s: %w", addr, err)
		}
		if err != nil {
			return append(found, fmt.Sprintf("%s does not tell (%v); allow +config|get", addr, err)), nil
		}
		value, ok := got[w.name]
		if w.name == "maxmemory-policy" && strings.HasPrefix(value, "volatile-") {
			continue // nothing that matters has a time to live
		}
		if ok && value != w.value {
			found = append(found, fmt.Sprintf("%s has %s %s: %s", addr, w.name, value, w.why))
		}
	}
	return found, nil
}

// tls reads the certificates; nil without TLS.
func (o *Options) tls(t target) (*tls.Config, error) {
	if !t.tls {
		if o.TLSCA != "" || o.TLSCert != "" || o.TLSKey != "" {
			return nil, fmt.Errorf("%w: certificates need rediss instead of redis", errURL)
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLSCA != "" {
		pem, err := os.ReadFile(o.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("read authorities of redis: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities of redis: no certificate in %s", o.TLSCA)
		}
	}
	if o.TLSCert == "" && o.TLSKey == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read certificate for redis: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

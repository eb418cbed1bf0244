package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// embeddedQueue is the option queue's value for the queues in the gateway's
// own directory.
const embeddedQueue = "embedded"

// Kinds of queues.
const (
	kindEmbedded = "embedded"
	kindRedis    = "redis"
	kindRADOS    = "rados"
)

// queueURL is what the option queue says: the place of queues.
type queueURL struct {
	kind      string
	raw       string // of Redis: the URL, which its driver reads; it may hold a password
	pool      string // of RADOS
	namespace string // keeps the queues apart from others; "": the store's own
}

// queueSchemes is what a queue URL begins with; never written.
var queueSchemes = []string{
	"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "rados",
}

// parseQueueURL reads the option queue:
//
//	embedded
//	redis://[USER:PASSWORD@]HOST[:PORT][/DB][?namespace=NAME]
//	redis+sentinel://[USER:PASSWORD@]HOST[:PORT],.../MASTER[/DB][?namespace=NAME]
//	redis+cluster://[USER:PASSWORD@]HOST[:PORT],...[?namespace=NAME]
//	rados://POOL[/NAMESPACE]
//
// rediss for redis means TLS. What a Redis URL says beside its namespace is
// left to the driver. No error holds a password.
func parseQueueURL(s string) (queueURL, error) {
	if s == embeddedQueue {
		return queueURL{kind: kindEmbedded}, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return queueURL{}, fmt.Errorf("want embedded, or a URL that begins with one of %s ://", strings.Join(queueSchemes, ", "))
	}
	if !slices.Contains(queueSchemes, scheme) {
		return queueURL{}, fmt.Errorf("%q is none of embedded, %s%s", scheme, strings.Join(queueSchemes, ", "), suggest(scheme, queueSchemes))
	}
	rest, query, _ := strings.Cut(rest, "?")
	u := queueURL{kind: kindRedis, raw: s}
	if scheme == kindRADOS {
		var err error
		if u, err = parseRADOS(rest, query); err != nil {
			return u, err
		}
	} else {
		values, err := url.ParseQuery(query)
		if err != nil {
			return queueURL{}, errors.New("what follows ? cannot be read")
		}
		u.namespace = values.Get("namespace")
	}
	if u.namespace != "" && !validNamespace(u.namespace) {
		return queueURL{}, errors.New("namespace: letters, digits and -_.: are allowed, at most 128")
	}
	return u, nil
}

// parseRADOS reads what follows rados:// in the options queue and store.
func parseRADOS(rest, query string) (queueURL, error) {
	pool, namespace, _ := strings.Cut(rest, "/")
	pool, err := url.PathUnescape(pool)
	if err != nil || pool == "" || query != "" {
		return queueURL{}, errors.New("want rados://POOL/NAMESPACE")
	}
	if strings.Contains(pool, "@") {
		return queueURL{}, errors.New("want rados://POOL/NAMESPACE; the user is the option queue.rados.user, or store.rados.user")
	}
	return queueURL{kind: kindRADOS, pool: pool, namespace: namespace}, nil
}

// validNamespace: a namespace is part of the names of keys and objects.
func validNamespace(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// redactURL hides the passwords in a queue URL, also in one that cannot be
// parsed.
func redactURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if strings.ContainsAny(s, "@:") { // what was meant cannot be known
			return masked
		}
		return s
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, _, hasPassword := strings.Cut(rest[:i], ":")
		if hasPassword {
			user += ":" + masked
		}
		rest = user + rest[i:]
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if hasQuery {
		pairs := strings.Split(query, "&")
		for i, p := range pairs {
			if name, _, _ := strings.Cut(p, "="); name != "namespace" {
				pairs[i] = name + "=" + masked
			}
		}
		rest += "?" + strings.Join(pairs, "&")
	}
	return scheme + "://" + rest
}

// withNamespace is the URL with a namespace, which a URL without one lacks.
func (u queueURL) withNamespace(namespace string) queueURL {
	u.namespace = namespace
	if u.kind == kindRedis && !strings.Contains(u.raw, "?") {
		u.raw += "?namespace=" + namespace
	} else if u.kind == kindRedis {
		u.raw += "&namespace=" + namespace
	}
	return u
}

// String is the URL without users and passwords, for logs.
func (u queueURL) String() string {
	switch u.kind {
	case kindRADOS:
		return strings.TrimSuffix("rados://"+url.PathEscape(u.pool)+"/"+u.namespace, "/")
	case kindRedis:
		scheme, rest, _ := strings.Cut(u.raw, "://")
		rest, _, _ = strings.Cut(rest, "?")
		rest = rest[strings.LastIndexByte(rest, '@')+1:]
		if u.namespace != "" {
			rest += "?namespace=" + u.namespace
		}
		return scheme + "://" + rest
	}
	return embeddedQueue
}

// validateQueue checks what the options of queues say, without asking anybody.
func (c *config) validateQueue() error {
	u, err := parseQueueURL(c.Queue)
	if err != nil {
		return fmt.Errorf("option queue: %q: %w", redactURL(c.Queue), err)
	}
	switch {
	case c.QueueRedisWait < 0:
		err = fmt.Errorf("option queue.redis.wait: %d replicas; 0 or more", c.QueueRedisWait)
	case (c.QueueRedisTLSCert == "") != (c.QueueRedisTLSKey == ""):
		err = errors.New("options queue.redis.tls_cert and queue.redis.tls_key come together")
	case u.kind == kindRedis && !strings.HasPrefix(u.raw, "rediss") && c.QueueRedisTLSCA+c.QueueRedisTLSCert != "":
		err = errors.New("option queue: TLS files are given, but the URL does not ask for TLS; say rediss:// for redis://")
	case u.kind == kindRADOS && !hasRADOS:
		err = errors.New("option queue: " + noRADOS)
	}
	return err
}

// noRADOS tells what to do about a binary without librados.
const noRADOS = "this gateway was built without librados, so that it knows no rados:// stores and queues; " +
	"install librados-dev and build it with `make build-rados`, or `go build -tags rados ./cmd/gateway`"

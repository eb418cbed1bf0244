package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Forms of a Redis installation.
const (
	formStandalone = "standalone"
	formSentinel   = "sentinel"
	formCluster    = "cluster"
)

// errURL is behind every error about an address. None contains the address
// itself, in which there may be a password.
var errURL = errors.New("redis URL")

// target is what a URL names.
type target struct {
	form             string
	tls              bool
	addrs            []string // host:port
	master           string   // the Sentinel's name of it
	username         string
	password         string
	sentinelUsername string
	sentinelPassword string
	db               int
	namespace        string
}

// schemes name the forms; never written.
var schemes = map[string]target{
	"redis":           {form: formStandalone},
	"rediss":          {form: formStandalone, tls: true},
	"redis+sentinel":  {form: formSentinel},
	"rediss+sentinel": {form: formSentinel, tls: true},
	"redis+cluster":   {form: formCluster},
	"rediss+cluster":  {form: formCluster, tls: true},
}

// parseURL reads one of
//
//	redis://user:password@host:port/db
//	redis+sentinel://user:password@host:port,host:port/master/db
//	redis+cluster://user:password@host:port,host:port
//
// with rediss for TLS. All parts but the hosts, and the master's name, may be
// left out. Parameters: namespace; sentinel_username and sentinel_password,
// when the Sentinels want their own.
func parseURL(s string) (target, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	t, known := schemes[scheme]
	if !ok || !known {
		return target{}, fmt.Errorf("%w: want redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster before ://", errURL)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := rest[at:end]
	// net/url knows one host only.
	u, err := url.Parse("redis://" + rest[:at] + "host" + rest[end:])
	if err != nil {
		return target{}, fmt.Errorf("%w: user, path or parameters cannot be read", errURL)
	}
	if u.Fragment != "" {
		return target{}, fmt.Errorf("%w: write # as %%23", errURL)
	}
	t.username = u.User.Username()
	t.password, _ = u.User.Password()
	if err := t.setHosts(hosts); err != nil {
		return target{}, err
	}
	if err := t.setPath(strings.TrimPrefix(u.Path, "/")); err != nil {
		return target{}, err
	}
	return t, t.setQuery(u.RawQuery)
}

func (t *target) setHosts(hosts string) error {
	port := "6379"
	if t.form == formSentinel {
		port = "26379"
	}
	for h := range strings.SplitSeq(hosts, ",") {
		host, p, err := net.SplitHostPort(h)
		if err != nil { // no port?
			host, p, err = net.SplitHostPort(h + ":" + port)
		}
		n, perr := strconv.ParseUint(p, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, "[]@ \t\r\n") {
			return fmt.Errorf("%w: want host:port, with [] around the address in IPv6, separated by commas", errURL)
		}
		t.addrs = append(t.addrs, net.JoinHostPort(host, p))
	}
	if t.form == formStandalone && len(t.addrs) > 1 {
		return fmt.Errorf("%w: several hosts need redis+sentinel or redis+cluster", errURL)
	}
	return nil
}

func (t *target) setPath(path string) error {
	db := path
	switch t.form {
	case formSentinel:
		t.master, db, _ = strings.Cut(path, "/")
		if t.master == "" {
			return fmt.Errorf("%w: want the Sentinel's name of the master after the hosts: /NAME/DB", errURL)
		}
	case formCluster:
		if path != "" {
			return fmt.Errorf("%w: a Cluster has no database numbers", errURL)
		}
	}
	if db == "" {
		return nil
	}
	n, err := strconv.ParseUint(db, 10, 31)
	if err != nil {
		return fmt.Errorf("%w: the database %q is not a number", errURL, db)
	}
	t.db = int(n)
	return nil
}

func (t *target) setQuery(raw string) error {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("%w: parameters cannot be read", errURL)
	}
	for name, values := range q {
		if len(values) != 1 {
			return fmt.Errorf("%w: parameter %q is given twice", errURL, name)
		}
		switch {
		case name == "namespace" && values[0] != "":
			t.namespace = values[0]
		case name == "sentinel_username" && t.form == formSentinel:
			t.sentinelUsername = values[0]
		case name == "sentinel_password" && t.form == formSentinel:
			t.sentinelPassword = values[0]
		default:
			return fmt.Errorf("%w: parameter %q is not known here", errURL, name)
		}
	}
	return nil
}

//go:build rados

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
)

// poolErasure is how the monitors name erasure-coded pools.
const poolErasure = 3

// initTimeout is how long a new pool may take to accept its first write.
const initTimeout = 60 * time.Second

// radosInit makes what a store in RADOS needs and lacks, and tells what it
// does. Nothing that is there is changed, but for the rights of the user that
// it was told to make.
type radosInit struct {
	config   config
	conn     *librados.Conn
	out      io.Writer
	pgs      int
	ec       string // K+M; "": replicated
	ecDomain string
	client   string // user to make; "": none
	keyring  string // its file; "": printed
	pools    []poolInfo
	osdCaps  []string
}

// poolInfo is what we need of `ceph osd pool ls detail`.
type poolInfo struct {
	Name string `json:"pool_name"`
	Type int    `json:"type"`
}

// radosVerb is `gateway rados`.
func radosVerb(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	if len(args) == 0 || args[0] != "init" {
		return 2, errors.New("want rados init; see gateway rados init --help")
	}
	c, rest, err := offlineConfig(args[1:], environ)
	if err != nil {
		return 2, err
	}
	r := &radosInit{config: c, out: stdout}
	fs := flag.NewFlagSet("gateway rados init", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&r.pgs, "pg-num", 0, "placement groups of each pool that is made; 0: what the cluster thinks")
	fs.StringVar(&r.ec, "ec", "", "make the data pool erasure-coded with `K+M` chunks, such as 4+2")
	fs.StringVar(&r.ecDomain, "ec-failure-domain", "host", "what no two chunks share: host, rack, osd, ...")
	fs.StringVar(&r.client, "client", "", "Ceph `user` to make for the gateway, with no more rights than it needs; existing ones get these rights")
	fs.StringVar(&r.keyring, "keyring", "", "`file` for the key of that user; empty: printed")
	fs.Usage = func() {
		fmt.Fprint(stderr, `gateway rados init --store rados://POOL/NAMESPACE [options]

Makes the pools that the options store, store.rados.data_pool and queue name,
where they are missing, and a Ceph user for the gateway. It connects as
store.rados.user (default admin), which has to be allowed all that.

`)
		fs.PrintDefaults()
	}
	if err := fs.Parse(rest); err != nil {
		return 2, err
	}
	if fs.NArg() > 0 {
		return 2, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return 0, r.run(ctx)
}

func (r *radosInit) run(ctx context.Context) error {
	place, err := parseStoreURL(r.config.Store)
	if err != nil {
		return err
	}
	if !place.rados() {
		return errors.New("option store: want rados://POOL/NAMESPACE, the place to make")
	}
	if r.ec != "" && r.config.StoreRADOSDataPool == "" {
		return errors.New("--ec is for the data pool: name one by --store.rados.data_pool")
	}
	user := strings.TrimPrefix(r.config.StoreRADOSUser, "client.")
	r.conn, err = librados.Connect(ctx, librados.Config{ConfFile: r.config.StoreRADOSConf, User: user, OpTimeout: initTimeout})
	if err != nil {
		return explainRADOS(err, user, place.pool, place.namespace, "docs/rados.md")
	}
	defer r.conn.Close()
	if err := r.mon(&r.pools, "osd pool ls", "detail", "detail"); err != nil {
		return err
	}
	for _, p := range r.wanted(place) {
		if err := r.pool(ctx, p); err != nil {
			return err
		}
	}
	if r.client != "" {
		if err := r.user(); err != nil {
			return err
		}
	}
	r.next()
	return nil
}

// mon sends a command to the monitors: its words, then names and values of its
// arguments. A JSON answer goes to result, unless that is nil.
func (r *radosInit) mon(result any, prefix string, args ...any) error {
	command := map[string]any{"prefix": prefix, "format": "json"}
	for i := 0; i < len(args); i += 2 {
		command[args[i].(string)] = args[i+1]
	}
	answer, err := r.conn.MonCommand(command)
	if err != nil {
		return fmt.Errorf("ceph %s: %w", prefix, err)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("ceph %s: its answer: %w", prefix, err)
	}
	return nil
}

// wantedPool is a pool that the gateway needs.
type wantedPool struct {
	name string
	data bool // may be erasure-coded
}

// wanted lists the pools that the options name, and notes what a user has to
// be allowed there.
func (r *radosInit) wanted(place storeURL) []wantedPool {
	var pools []wantedPool
	add := func(name, namespace string, data bool) {
		rights := "allow rwx pool=" + name
		if namespace != "" {
			rights += " namespace=" + namespace
		}
		if !slices.Contains(r.osdCaps, rights) {
			r.osdCaps = append(r.osdCaps, rights)
		}
		if !slices.ContainsFunc(pools, func(p wantedPool) bool { return p.name == name }) {
			pools = append(pools, wantedPool{name, data})
		}
	}
	add(place.pool, place.namespace, false)
	if data := r.config.StoreRADOSDataPool; data != "" {
		add(data, place.namespace, true)
	}
	// A radosgw's pool, or one of another cluster, is not ours to make.
	q, err := parseQueueURL(r.config.Queue)
	if err == nil && q.kind == kindRADOS && !r.config.QueueRADOSRGWCompatible && r.config.QueueRADOSConf == "" {
		add(q.pool, cmp.Or(q.namespace, "herald-*"), false) // the store's id, of which it is made, is not known yet
	}
	return pools
}

// pool makes a pool if it is missing, and writes to it once.
func (r *radosInit) pool(ctx context.Context, p wantedPool) error {
	at := slices.IndexFunc(r.pools, func(there poolInfo) bool { return there.Name == p.name })
	switch {
	case at >= 0 && r.pools[at].Type == poolErasure && !p.data:
		return fmt.Errorf("pool %s is erasure-coded: heads, indexes and queues need a replicated one; name this one by --store.rados.data-pool", p.name)
	case at >= 0:
		fmt.Fprintf(r.out, "pool %s: there\n", p.name)
	default:
		if err := r.makePool(p.name, p.data); err != nil {
			return err
		}
	}
	return r.tryPool(ctx, p.name)
}

func (r *radosInit) makePool(name string, data bool) error {
	args := []any{"pool", name, "pool_type", "replicated"}
	kind := "replicated"
	if data && r.ec != "" {
		k, m, ok := strings.Cut(r.ec, "+")
		if !ok {
			return fmt.Errorf("--ec %q: want K+M, such as 4+2", r.ec)
		}
		profile := "herald-" + k + "-" + m + "-" + r.ecDomain
		err := r.mon(nil, "osd erasure-code-profile set", "name", profile,
			"profile", []string{"k=" + k, "m=" + m, "crush-failure-domain=" + r.ecDomain})
		if err != nil {
			return err
		}
		args = []any{"pool", name, "pool_type", "erasure", "erasure_code_profile", profile}
		kind = "erasure-coded " + r.ec
	}
	if r.pgs > 0 {
		args = append(args, "pg_num", r.pgs)
	}
	if err := r.mon(nil, "osd pool create", args...); err != nil {
		return err
	}
	if err := r.mon(nil, "osd pool application enable", "pool", name, "app", "herald"); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "pool %s: made (%s)\n", name, kind)
	return nil
}

// tryPool writes an object and removes it: a pool whose OSDs are too few takes
// no write, and gateways would wait.
func (r *radosInit) tryPool(ctx context.Context, pool string) error {
	ioctx, err := r.conn.IO(pool, "herald-init")
	if err != nil {
		return fmt.Errorf("pool %s: %w", pool, err)
	}
	const probe = "probe"
	write, remove := librados.NewWrite(), librados.NewWrite()
	write.WriteFull([]byte(probe))
	remove.Remove()
	if _, err = ioctx.Operate(ctx, probe, write, 0); err == nil {
		_, err = ioctx.Operate(ctx, probe, remove, 0)
	}
	if errors.Is(err, syscall.ETIMEDOUT) {
		return fmt.Errorf("pool %s takes no write within %s: are there as many OSDs as it wants? (ceph health detail)", pool, initTimeout)
	}
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("pool %s takes no write: %w: rados init wants a user who may do everything, such as client.admin; this is client.%s (option store.rados.user)",
			pool, err, strings.TrimPrefix(r.config.StoreRADOSUser, "client."))
	}
	if err != nil {
		return fmt.Errorf("pool %s takes no write: %w", pool, err)
	}
	return nil
}

// user makes a user that may do what the gateway does, and nothing else.
func (r *radosInit) user() error {
	entity := "client." + strings.TrimPrefix(r.client, "client.")
	caps := []string{"mon", "allow r", "osd", strings.Join(r.osdCaps, ", ")}
	var keys []struct {
		Key string `json:"key"`
	}
	err := r.mon(&keys, "auth get-or-create", "entity", entity, "caps", caps)
	if errors.Is(err, syscall.EINVAL) { // it is there with other rights
		if err = r.mon(nil, "auth caps", "entity", entity, "caps", caps); err == nil {
			err = r.mon(&keys, "auth get", "entity", entity)
		}
	}
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fmt.Errorf("user %s: the monitors gave no key", entity)
	}
	fmt.Fprintf(r.out, "user %s: may %s\n", entity, strings.Join(r.osdCaps, ", "))
	text := fmt.Sprintf("[%s]\n\tkey = %s\n", entity, keys[0].Key)
	if r.keyring == "" {
		fmt.Fprint(r.out, text)
		return nil
	}
	if err := os.WriteFile(r.keyring, []byte(text), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "user %s: key in %s\n", entity, r.keyring)
	return nil
}

// next prints how to start a gateway.
func (r *radosInit) next() {
	words := []string{"gateway serve --store " + r.config.Store}
	add := func(flag, value, otherwise string) {
		if value != otherwise {
			words = append(words, flag+" "+value)
		}
	}
	base := defaultConfig()
	add("--store.rados.conf", r.config.StoreRADOSConf, "")
	add("--store.rados.user", cmp.Or(r.client, r.config.StoreRADOSUser), base.StoreRADOSUser)
	add("--store.rados.data-pool", r.config.StoreRADOSDataPool, "")
	add("--queue", redactURL(r.config.Queue), base.Queue)
	how := "Ready. Next:"
	if r.client != "" {
		name := strings.TrimPrefix(r.client, "client.")
		how = fmt.Sprintf("Ready. When the key is where ceph.conf says (keyring = ..., else /etc/ceph/ceph.client.%s.keyring), next:", name)
	}
	fmt.Fprintf(r.out, "\n%s\n\n    %s\n\n", how, strings.Join(words, " \\\n        "))
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"herald/notify"
)

// config is everything that can be set. An option is set by, from weak to
// strong: its default, the YAML file (--config), the environment
// (HERALD_ and the key in capitals, '_' for '.'; HERALD_..._FILE names a file that holds a
// secret), and its flag (the key with '-' for '_').
type config struct {
	Store  string `yaml:"store" help:"where objects live: posix, plain files below data, or rados://POOL/NAMESPACE, a Ceph cluster (docs/rados.md)"`
	Data   string `yaml:"data" help:"directory of the objects on posix; what the gateway keeps for itself is in .herald below it"`
	Listen string `yaml:"listen" help:"address of the S3 endpoint"`
	Ops    string `yaml:"ops" help:"address of /healthz, /readyz and /metrics; empty: none"`
	Pprof  bool   `yaml:"pprof" help:"serve /debug/pprof on the ops address"`
	Demo   bool   `yaml:"demo" help:"make a bucket named demo, and print what to try next"`

	Region  string   `yaml:"region" help:"region (RGW: zonegroup) that the gateway says it is in"`
	Domains []string `yaml:"domains" help:"host names whose sub-domains are bucket names (virtual-host style), comma-separated"`

	RootAccessKey string `yaml:"root_access_key" help:"access key of the user root, made at the first start; empty: generated"`
	RootSecretKey string `yaml:"root_secret_key" secret:"true" help:"its secret key; empty: generated"`

	StoreRADOSConf     string `yaml:"store.rados.conf" help:"ceph.conf of the objects' cluster; empty: where Ceph looks for it"`
	StoreRADOSUser     string `yaml:"store.rados.user" help:"Ceph user of the store, without client."`
	StoreRADOSDataPool string `yaml:"store.rados.data_pool" help:"pool of what objects have beyond 64 KiB, replicated or erasure-coded; empty: that of the rest"`

	Durability      string        `yaml:"durability" help:"full: an acknowledged change survives loss of power; relaxed: only a crash of the gateway"`
	Xattr           string        `yaml:"xattr" help:"auto: attributes in extended attributes where the filesystem has them; off: in side files"`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" help:"how long requests may take to end after SIGTERM"`
	LogLevel        string        `yaml:"log_level" help:"debug, info, warn or error"`
	LogFormat       string        `yaml:"log_format" help:"text or json"`

	Queue                   string        `yaml:"queue" secret:"url" help:"where events wait: embedded, redis://HOST, rediss://HOST (TLS), redis+sentinel://HOSTS/MASTER, redis+cluster://HOSTS or rados://POOL/NAMESPACE (docs/queues.md)"`
	QueueLease              time.Duration `yaml:"queue_lease" help:"how long the deliveries of a gateway that died, and the buckets whose lifecycle rules it carried out, stay with it before another one takes them over"`
	QueueRedisRequireAOF    bool          `yaml:"queue.redis.require_aof" help:"refuse a Redis server that does not keep an append-only file, which loses events when it dies; false: only warn"`
	QueueRedisWait          int           `yaml:"queue.redis.wait" help:"replicas that must have a change before it counts (Redis: WAIT); 0: none"`
	QueueRedisTLSCA         string        `yaml:"queue.redis.tls_ca" help:"file of the certificates (PEM) that rediss:// trusts; empty: the system's"`
	QueueRedisTLSCert       string        `yaml:"queue.redis.tls_cert" help:"file of the client's certificate (PEM) for rediss://; empty: none"`
	QueueRedisTLSKey        string        `yaml:"queue.redis.tls_key" help:"file of its key (PEM)"`
	QueueRADOSRGWCompatible bool          `yaml:"queue.rados.rgw_compatible" help:"share queues with Ceph's radosgw: its object and lock names, and its encoding of entries"`
	QueueRADOSConf          string        `yaml:"queue.rados.conf" help:"ceph.conf of the queues' cluster; empty: that of the store"`
	QueueRADOSUser          string        `yaml:"queue.rados.user" help:"Ceph user of the queues, without client.; empty: that of the store"`

	TopicShards          int           `yaml:"topic_shards" help:"queues per new persistent topic (RGW: rgw_bucket_persistent_notif_num_shards); 0: 1 on RADOS, 2 on Redis, 11 embedded and with queue.rados.rgw_compatible"`
	QueueCapacity        int64         `yaml:"queue_capacity" help:"bytes per queue shard; a full queue answers 503 SlowDown"`
	TopicTimeToLive      time.Duration `yaml:"topic_time_to_live" help:"age at which an undelivered event goes to the dead letters, unless the topic says; 0: never"`
	TopicMaxRetries      int           `yaml:"topic_max_retries" help:"retries after which it does, unless the topic says; 0: unlimited"`
	TopicRetrySleep      time.Duration `yaml:"topic_retry_sleep" help:"pause between tries, unless the topic says; 0: back off exponentially"`
	ReservationStale     time.Duration `yaml:"reservation_stale" help:"age at which a reservation that nobody renews is resolved"`
	HTTPConnectTimeout   time.Duration `yaml:"http_connect_timeout" help:"for connecting to an HTTP endpoint (RGW: rgw_http_notif_connection_timeout)"`
	HTTPMessageTimeout   time.Duration `yaml:"http_message_timeout" help:"for one push to an HTTP endpoint, connecting included (RGW: rgw_http_notif_message_timeout)"`
	HTTPMaxInflight      int           `yaml:"http_max_inflight" help:"pushes to HTTP endpoints that may be on their way at once, over all topics (RGW: rgw_http_notif_max_inflight)"`
	EndpointAllow        []string      `yaml:"notify.endpoint_allow" help:"where endpoints of users that are no administrators may be besides the public Internet: networks, host names, loopback, private or *, with :PORT or without, comma-separated (docs/notifications.md)"`
	EndpointFiles        string        `yaml:"notify.endpoint_files" help:"directory whose files (authorities, certificates, keys, credentials) endpoints of users that are no administrators may name; empty: none"`
	WindowMemory         int64         `yaml:"notify.window_memory" help:"bytes that events read from their queues, to be sent next, may take in memory, over all topics"`
	CleartextSecrets     bool          `yaml:"allow_notification_secrets_in_cleartext" help:"accept topics with a password over plain HTTP, and use SASL with Kafka without TLS (RGW: rgw_allow_notification_secrets_in_cleartext)"`
	RequirePublishPolicy bool          `yaml:"topic_require_publish_policy" help:"only a topic's policy lets other users publish to it (RGW: rgw_topic_require_publish_policy)"`
	ReplaceNotifications bool          `yaml:"replace_notifications" help:"a PUT of a bucket's notifications replaces those that are there, as in S3; false: it adds to them, as in RGW"`
	RelaxedTopicNames    bool          `yaml:"relaxed_topic_names" help:"accept any topic name that is not empty (RGW: rgw_relaxed_topic_names)"`
	LCDebugInterval      time.Duration `yaml:"lc_debug_interval" help:"how long a day of lifecycle rules lasts, for tests (RGW: rgw_lc_debug_interval); 0: 24 hours, due at midnight UTC"`
	TrustForwardedHTTPS  bool          `yaml:"trust_forwarded_https" help:"take X-Forwarded-Proto: https as a secure transport (RGW: rgw_trust_forwarded_https)"`
}

func defaultConfig() config {
	return config{
		Store:           posixStore,
		Data:            "./herald-data",
		Listen:          "127.0.0.1:7480", // RGW's port
		Ops:             "127.0.0.1:7481",
		Region:          "default",
		StoreRADOSUser:  "admin",
		Durability:      "full",
		Xattr:           "auto",
		ShutdownTimeout: 30 * time.Second,
		LogLevel:        "info",
		LogFormat:       "text",

		Queue:                embeddedQueue,
		QueueLease:           30 * time.Second,
		QueueRedisRequireAOF: true,

		QueueCapacity:      128_000_000, // RGW
		ReservationStale:   2 * time.Minute,
		HTTPConnectTimeout: 5 * time.Second,  // RGW
		HTTPMessageTimeout: 10 * time.Second, // RGW
		HTTPMaxInflight:    8192,             // RGW
		WindowMemory:       256_000_000,
	}
}

// option is one field of config.
type option struct {
	key, env, flag, help string
	secret               string // "": none; "true": the whole value; "url": the password in it
	value                reflect.Value
}

func (c *config) options() []option {
	v := reflect.ValueOf(c).Elem()
	opts := make([]option, v.NumField())
	for i := range opts {
		f := v.Type().Field(i)
		key := f.Tag.Get("yaml")
		opts[i] = option{
			key:    key,
			env:    "HERALD_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_")),
			flag:   strings.ReplaceAll(key, "_", "-"),
			help:   f.Tag.Get("help"),
			secret: f.Tag.Get("secret"),
			value:  v.Field(i),
		}
	}
	return opts
}

// String implements flag.Value. Help prints it: no secret is in it.
func (o option) String() string {
	if !o.value.IsValid() {
		return ""
	}
	if o.secret != "" {
		return mask(o.secret, o.value.String())
	}
	if list, ok := o.value.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(o.value.Interface())
}

// IsBoolFlag lets --pprof stand for --pprof=true.
func (o option) IsBoolFlag() bool { return o.value.Kind() == reflect.Bool }

// Set implements flag.Value.
func (o option) Set(s string) error {
	switch p := o.value.Addr().Interface().(type) {
	case *string:
		*p = s
	case *[]string:
		*p = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	default:
		// YAML reads the scalars: numbers, booleans, durations as "10s".
		if err := yaml.Unmarshal([]byte(s), o.value.Addr().Interface()); err != nil {
			return fmt.Errorf("%q is not a %s", s, o.value.Type())
		}
	}
	return nil
}

// loadConfig reads the configuration of one verb from its arguments, and
// returns what is left of them.
func loadConfig(verb string, args []string, environ []string, stderr io.Writer) (config, []string, error) {
	c := defaultConfig()
	opts := c.options()
	file := configFile(args, environ)
	if file != "" {
		if err := c.readFile(file, opts); err != nil {
			return c, nil, err
		}
	}
	if err := readEnviron(environ, opts); err != nil {
		return c, nil, err
	}
	fs := flag.NewFlagSet("gateway "+verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.String("config", file, "YAML `file` with any of these options (environment: HERALD_CONFIG)")
	for _, o := range opts {
		fs.Var(o, o.flag, o.help)
	}
	if err := fs.Parse(args); err != nil {
		return c, nil, err
	}
	return c, fs.Args(), c.validate()
}

// configFile finds --config before the flags are parsed, since the file is
// weaker than the flags.
func configFile(args, environ []string) string {
	file := ""
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "HERALD_CONFIG="); ok {
			file = v
		}
	}
	for i, a := range args {
		name, value, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if !strings.HasPrefix(a, "-") || name != "config" {
			continue
		}
		if hasValue {
			file = value
		} else if i+1 < len(args) {
			file = args[i+1]
		}
	}
	return file
}

func (c *config) readFile(name string, opts []option) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal(data, &keys); err != nil {
		return fmt.Errorf("config %s: %w", name, err)
	}
	known := make([]string, len(opts))
	for i, o := range opts {
		known[i] = o.key
	}
	for key := range keys {
		if !slices.Contains(known, key) {
			return fmt.Errorf("config %s: unknown key %q%s", name, key, suggest(key, known))
		}
	}
	for key, value := range keys { // one by one, so that an error names the key
		one, err := yaml.Marshal(map[string]*yaml.Node{key: &value})
		if err == nil {
			err = yaml.Unmarshal(one, c)
		}
		if err != nil {
			return fmt.Errorf("config %s: %s: %w", name, key, err)
		}
	}
	return nil
}

func readEnviron(environ []string, opts []option) error {
	byEnv := make(map[string]option, len(opts))
	known := []string{"HERALD_CONFIG"}
	for _, o := range opts {
		byEnv[o.env] = o
		known = append(known, o.env)
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "HERALD_") || strings.HasPrefix(name, "HERALD_TEST_") || slices.Contains(reservedEnv, name) {
			continue
		}
		o, ok := byEnv[name]
		if base, isFile := strings.CutSuffix(name, "_FILE"); !ok && isFile && byEnv[base].secret != "" {
			data, err := os.ReadFile(value)
			if err != nil {
				return fmt.Errorf("environment %s: %w", name, err)
			}
			o, ok, value = byEnv[base], true, strings.TrimSpace(string(data))
		}
		if !ok {
			return fmt.Errorf("environment: unknown variable %s%s", name, suggest(name, known))
		}
		if err := o.Set(value); err != nil {
			return fmt.Errorf("environment %s: %w", name, err)
		}
	}
	return nil
}

// reservedEnv are variables of Herald that are no options of the gateway:
// those of its tests (HERALD_TEST_ is their prefix) and of fault injection.
var reservedEnv = []string{"HERALD_CONFIG", "HERALD_FAULT", "HERALD_LONG", "HERALD_CRASH_KILLS", "HERALD_GATEWAY", "HERALD_LINEAR_TIME", "HERALD_SOAK_TIME", "HERALD_SOAK_SEED"}

// suggest returns a hint at the known word nearest to an unknown one.
func suggest(word string, known []string) string {
	best, distance := "", 1+len(word)/2
	for _, k := range known {
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			if a[i] != b[j] {
				diagonal++
			}
			next := min(row[j]+1, row[j+1]+1, diagonal)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func (c *config) validate() error {
	oneOf := func(key, value string, allowed ...string) error {
		if slices.Contains(allowed, value) {
			return nil
		}
		return fmt.Errorf("option %s: %q is none of %s", key, value, strings.Join(allowed, ", "))
	}
	errs := []error{
		oneOf("durability", c.Durability, "full", "relaxed"),
		oneOf("xattr", c.Xattr, "auto", "off"),
		oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error"),
		oneOf("log_format", c.LogFormat, "text", "json"),
	}
	for _, a := range []string{c.Listen, c.Ops} {
		if _, _, err := net.SplitHostPort(a); err != nil && a != "" {
			errs = append(errs, fmt.Errorf("address %q: want HOST:PORT", a))
		}
	}
	if (c.RootAccessKey == "") != (c.RootSecretKey == "") {
		errs = append(errs, errors.New("root_access_key and root_secret_key come together"))
	}
	if c.Data == "" || c.Listen == "" {
		errs = append(errs, errors.New("options data and listen must not be empty"))
	}
	if c.TopicShards < 0 || c.QueueCapacity < 1<<20 {
		errs = append(errs, errors.New("options topic_shards and queue_capacity: at least 0 and 1048576"))
	}
	if c.HTTPMaxInflight < 1 {
		errs = append(errs, errors.New("option http_max_inflight: at least 1"))
	}
	if c.WindowMemory < 1<<20 {
		errs = append(errs, errors.New("option notify.window_memory: at least 1048576"))
	}
	if _, err := notify.ParseOutbound(c.EndpointAllow); err != nil {
		errs = append(errs, err)
	}
	if c.EndpointFiles != "" && !filepath.IsAbs(c.EndpointFiles) {
		errs = append(errs, errors.New("option notify.endpoint_files: an absolute path is expected"))
	}
	if c.QueueLease < time.Second {
		errs = append(errs, fmt.Errorf("option queue_lease: %s is too short; at least 1s", c.QueueLease))
	}
	return errors.Join(append(errs, c.validateStore(), c.validateQueue())...)
}

const masked = "********"

// mask hides what is secret in an option's value: all of it, or the password
// of a URL.
func mask(kind, value string) string {
	switch {
	case value == "":
		return ""
	case kind == "url":
		return redactURL(value)
	}
	return masked
}

// print writes the configuration in force as YAML, secrets masked.
func (c *config) print(w io.Writer) error {
	shown := *c
	for _, o := range shown.options() {
		if o.secret != "" {
			o.value.SetString(mask(o.secret, o.value.String()))
		}
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return enc.Encode(&shown)
}

package brokertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"herald/tests/certtest"
	"herald/tests/gatewaytest"
)

// RabbitMQ is a RabbitMQ server and its port mapper.
type RabbitMQ struct {
	*Process
	Addr string // of AMQP 0-9-1 over TCP
	TLS  string // over TLS; empty: not asked for

	t       testing.TB
	dir     string
	env     []string
	node    string
	program string
	call    string
}

// cookie is what an Erlang node lets others in by.
const cookie = "HERALDTESTCOOKIE"

// RabbitOptions; the zero value is valid.
type RabbitOptions struct {
	// Config is more lines of rabbitmq.conf.
	Config []string
	// CA, when set: there is a port with TLS, with a certificate of this
	// authority; clients may show one.
	CA *certtest.CA
}

// StartRabbitMQ starts one and waits until it takes connections.
func StartRabbitMQ(t testing.TB, opt RabbitOptions) *RabbitMQ {
	t.Helper()
	r := &RabbitMQ{t: t}
	r.program = program(t, "rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
	r.call = program(t, "erl_call", "erl_call")
	mapper := program(t, "epmd", "epmd")
	dir, err := os.MkdirTemp("", "rabbitmq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.dir = dir
	r.Addr = gatewaytest.FreeAddress(t)
	config := append([]string{"loopback_users = none", "listeners.tcp.1 = " + r.Addr, "log.file.level = info",
		"vm_memory_high_watermark.absolute = 2GB", "disk_free_limit.absolute = 1MB", "total_memory_available_override_value = 4GB"}, opt.Config...)
	if opt.CA != nil {
		r.TLS = gatewaytest.FreeAddress(t)
		cert, key := opt.CA.Issue("rabbitmq")
		config = append(config, "listeners.ssl.1 = "+r.TLS, "ssl_options.cacertfile = "+opt.CA.File, "ssl_options.certfile = "+cert,
			"ssl_options.keyfile = "+key, "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = false")
	}
	write(t, filepath.Join(dir, "rabbitmq.conf"), strings.Join(config, "\n")+"\n")
	write(t, filepath.Join(dir, "plugins"), "[].\n")
	write(t, filepath.Join(dir, ".erlang.cookie"), cookie)
	if err := os.Chmod(filepath.Join(dir, ".erlang.cookie"), 0o400); err != nil {
		t.Fatal(err)
	}
	mapperPort := freePort(t)
	r.node = fmt.Sprintf("rabbit%d@localhost", port(r.Addr))
	r.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8",
		"ERL_EPMD_PORT=" + mapperPort, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_NODENAME=" + r.node, "RABBITMQ_BASE=" + dir,
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "plugins"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "db"), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_SCHEMA_DIR=" + filepath.Join(dir, "schema"), "RABBITMQ_GENERATED_CONFIG_DIR=" + filepath.Join(dir, "config"),
		"RABBITMQ_PID_FILE=" + filepath.Join(dir, "pid"), "RABBITMQ_DIST_PORT=" + freePort(t), "RABBITMQ_LOGS=-",
		"RABBITMQ_ALLOW_INPUT=true", // the server is then the process that is started, not a child of it
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1}",
		"ERL_CRASH_DUMP_SECONDS=0",
	}
	run(t, filepath.Join(dir, "epmd.log"), r.env, mapper, "-port", mapperPort, "-address", "127.0.0.1")
	eventually(t, "epmd listens", nil, func() bool { return dialable("127.0.0.1:" + mapperPort) })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("RabbitMQ's log ends with:\n%s", tail(r.log()))
		}
	})
	r.Start()
	return r
}

func (r *RabbitMQ) log() string { return filepath.Join(r.dir, "output.log") }

// Start starts the server, again after Kill or Stop, and waits until it takes
// connections.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	r.Process = run(r.t, r.log(), r.env, r.program)
	eventually(r.t, "RabbitMQ listens", r.Process, func() bool {
		return dialable(r.Addr) && (r.TLS == "" || dialable(r.TLS))
	})
}

// Eval has the server evaluate Erlang expressions, and returns what the last one
// is. (rabbitmqctl starts an Erlang machine of its own each time.)
func (r *RabbitMQ) Eval(expressions string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.call, "-sname", r.node, "-c", cookie, "-e")
	cmd.Env, cmd.Stdin = r.env, strings.NewReader(expressions+".\n")
	out, err := cmd.CombinedOutput()
	result, ok := strings.CutPrefix(string(out), "{ok, ")
	if err != nil || !ok {
		r.t.Fatalf("evaluate %s: %v\n%q", expressions, err, out)
	}
	return strings.TrimSuffix(strings.TrimSpace(result), "}")
}

// AddUser makes a user who may write to, and read from, what the patterns name
// in the virtual host /.
func (r *RabbitMQ) AddUser(name, password, write, read string) {
	r.t.Helper()
	r.Eval(fmt.Sprintf(`rabbit_auth_backend_internal:add_user(<<%[1]q>>, <<%[2]q>>, <<"test">>),
		rabbit_auth_backend_internal:set_permissions(<<%[1]q>>, <<"/">>, <<>>, <<%[3]q>>, <<%[4]q>>, <<"test">>)`, name, password, write, read))
}

// Sync writes down what was declared: what is new a Kill would lose.
func (r *RabbitMQ) Sync() {
	r.t.Helper()
	r.Eval("mnesia:sync_log()")
}

// AddHost makes a virtual host.
func (r *RabbitMQ) AddHost(name string) {
	r.t.Helper()
	r.Eval(fmt.Sprintf(`rabbit_vhost:add(<<%q>>, <<"test">>)`, name))
}

// Memory and Disk raise an alarm, in which the server takes no messages, or lift
// it.
func (r *RabbitMQ) Memory(alarm bool) {
	r.t.Helper()
	limit := 2_000_000_000
	if alarm {
		limit = 1_000_000
	}
	r.Eval(fmt.Sprintf("vm_memory_monitor:set_vm_memory_high_watermark({absolute, %d})", limit))
}

// Disk is described with Memory.
func (r *RabbitMQ) Disk(alarm bool) {
	r.t.Helper()
	limit := 1_000_000
	if alarm {
		limit = 100_000_000_000_000
	}
	r.Eval(fmt.Sprintf("rabbit_disk_monitor:set_disk_free_limit(%d)", limit))
}

// Connections is how many there are of a product.
func (r *RabbitMQ) Connections(product string) int {
	r.t.Helper()
	n, err := strconv.Atoi(r.Eval(fmt.Sprintf(`length([P || [{client_properties, P}] <- rabbit_networking:connection_info_all([client_properties]),
		is_list(P), lists:keymember(<<%q>>, 3, P)])`, product)))
	r.check(err)
	return n
}

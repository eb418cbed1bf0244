// Package kafkatest starts a real Kafka broker for tests: one process in KRaft
// mode, alone, with listeners for plain, TLS, mTLS and SASL clients on free
// loopback ports and a directory of its own. It ends with the test binary.
package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"herald/tests/brokertest"
	"herald/tests/certtest"
	"herald/tests/processtest"
)

// startTimeout is how long the broker may take until it answers, on a busy
// machine.
const startTimeout = 300 * time.Second

// The user that all SASL listeners know, by each mechanism.
const (
	User     = "alice"
	Password = "alice-secret"
)

// IdleTime is after how long without use the broker closes a connection.
const IdleTime = 5 * time.Second

// Server is a Kafka broker. Addresses are host:port.
type Server struct {
	Plain     string // neither TLS nor SASL
	Proxied   string // likewise, through Proxy
	TLS       string
	MTLS      string // TLS, with a certificate of the client
	SASL      string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER
	SASLTLS   string // the same over TLS
	Proxy     *brokertest.Proxy
	Authority string // file with the authority of the certificates
	// ClientCertificate, ClientKey are files for MTLS; ClientKeyEncrypted is the
	// key under KeyPassword.
	ClientCertificate, ClientKey string

	dir        string
	jars       string
	controller string

	mu      sync.Mutex // guards what follows
	process *processtest.Process
}

// shared is the broker of the test binary.
type shared struct {
	once sync.Once
	s    *Server
	err  error
}

// theShared is started by who first needs it.
var theShared = &shared{}

// Shared returns the test binary's broker, and starts it if it does not run.
// It skips the test where there is no Kafka (see tests/deps.sh); in CI
// (environment CI=true) that is a failure.
func Shared(t testing.TB) *Server {
	t.Helper()
	jars, err := findJars()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	theShared.once.Do(func() { theShared.s, theShared.err = create(t, jars) })
	s := theShared.s
	if s == nil {
		t.Fatalf("Kafka's files were not made: %v", theShared.err)
	}
	s.Proxy.Restore()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the broker's log ends with:\n%s", s.log(6000))
		}
	})
	return s
}

// StopShared stops the test binary's broker and removes its files: for TestMain.
func StopShared() {
	if s := theShared.s; s != nil {
		s.Kill()
		s.Proxy.Close()
		_ = os.RemoveAll(s.dir) // a temporary directory
	}
}

// findJars returns the directory that tests/deps.sh fills.
func findJars() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", errors.New("missing: java")
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("missing: the directory of go.mod")
		}
	}
	jars := filepath.Join(dir, ".deps", "kafka")
	if found, _ := filepath.Glob(filepath.Join(jars, "kafka_*.jar")); len(found) == 0 {
		return "", errors.New("missing: the jars of Kafka (make deps)")
	}
	return jars, nil
}

// create makes the broker's files; it does not run yet.
func create(t testing.TB, jars string) (*Server, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "herald-kafka-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, jars: jars}
	for _, addr := range []*string{&s.Plain, &s.TLS, &s.MTLS, &s.SASL, &s.SASLTLS, &s.controller} {
		if *addr, err = processtest.FreeAddress(); err != nil {
			return nil, err
		}
	}
	behind, err := processtest.FreeAddress()
	if err != nil {
		return nil, err
	}
	if s.Proxy, err = brokertest.StartProxy(behind); err != nil {
		return nil, err
	}
	s.Proxied = s.Proxy.Addr
	if err := s.makeCertificates(certtest.NewCAIn(t, dir)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.file("server.properties"), []byte(s.properties(behind)), 0o600); err != nil {
		return nil, err
	}
	scram := func(mechanism string) string {
		return fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password)
	}
	out, err := s.java("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", s.file("server.properties"),
		"--add-scram", scram("SCRAM-SHA-256"), "--add-scram", scram("SCRAM-SHA-512")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("format Kafka's storage: %w\n%s", err, out)
	}
	return s, nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// makeCertificates makes those of the broker and of a client.
func (s *Server) makeCertificates(ca *certtest.CA) error {
	s.Authority = ca.File
	s.ClientCertificate, s.ClientKey = ca.Issue("herald")
	var pair []byte
	cert, key := ca.Issue("broker")
	for _, file := range []string{key, cert} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pair = append(pair, text...)
	}
	return os.WriteFile(s.file("server.pem"), pair, 0o600)
}

func (s *Server) java(class string, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.network=error",
		"-cp", filepath.Join(s.jars, "*"), class,
	}, args...)...)
}

// properties is the broker's configuration.
func (s *Server) properties(behind string) string {
	login := func(class, options string) string {
		return "org.apache.kafka.common.security." + class + " required " + options + ";"
	}
	lines := []string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + s.controller,
		"listeners=PLAIN://" + s.Plain + ",PROXIED://" + behind + ",TLS://" + s.TLS + ",MTLS://" + s.MTLS +
			",SASL://" + s.SASL + ",SASLTLS://" + s.SASLTLS + ",CONTROLLER://" + s.controller,
		"advertised.listeners=PLAIN://" + s.Plain + ",PROXIED://" + s.Proxied + ",TLS://" + s.TLS + ",MTLS://" + s.MTLS +
			",SASL://" + s.SASL + ",SASLTLS://" + s.SASLTLS,
		"listener.security.protocol.map=PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,TLS:SSL,MTLS:SSL,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=PLAIN", "controller.listener.names=CONTROLLER",
		"log.dirs=" + s.file("data"), "num.partitions=4", "auto.create.topics.enable=true", "delete.topic.enable=true",
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=1",
		fmt.Sprintf("connections.max.idle.ms=%d", IdleTime.Milliseconds()),
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + s.file("server.pem"),
		"ssl.truststore.type=PEM", "ssl.truststore.location=" + s.Authority,
		"ssl.endpoint.identification.algorithm=", "listener.name.mtls.ssl.client.auth=required",
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
	}
	for _, l := range []string{"sasl", "sasltls"} {
		prefix := "listener.name." + l + "."
		lines = append(lines,
			prefix+"plain.sasl.jaas.config="+login("plain.PlainLoginModule", fmt.Sprintf("user_%s=%q", User, Password)),
			prefix+"scram-sha-256.sasl.jaas.config="+login("scram.ScramLoginModule", ""),
			prefix+"scram-sha-512.sasl.jaas.config="+login("scram.ScramLoginModule", ""),
			prefix+"oauthbearer.sasl.jaas.config="+login("oauthbearer.OAuthBearerLoginModule", `unsecuredLoginStringClaim_sub="broker"`),
			prefix+"oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
			prefix+"oauthbearer.sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredLoginCallbackHandler",
		)
	}
	return strings.Join(lines, "\n") + "\n"
}

// Start starts the broker and waits until it answers, unless it runs.
func (s *Server) Start() error {
	if !s.running().Ended() {
		return nil
	}
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd := s.java("kafka.Kafka", s.file("server.properties"))
	cmd.Stdout, cmd.Stderr = log, log
	p, err := processtest.Start(cmd)
	if err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return s.waitReady(p)
}

func (s *Server) running() *processtest.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) waitReady(p *processtest.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Plain))
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		if p.Ended() {
			return fmt.Errorf("the broker ended at its start\n%s", s.log(6000))
		}
		ping, stop := context.WithTimeout(ctx, 5*time.Second)
		err = cl.Ping(ping)
		stop()
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond) // readiness can only be polled
	}
	return fmt.Errorf("the broker does not answer after %s: %w\n%s", startTimeout, err, s.log(6000))
}

// Kill ends the broker by SIGKILL and waits for it.
func (s *Server) Kill() { s.running().Kill() }

// Pause halts the broker's process, as a machine that is suspended.
func (s *Server) Pause() error { return s.running().Pause() }

// Resume lets a halted broker go on.
func (s *Server) Resume() error { return s.running().Resume() }

// log is the end of what the broker printed.
func (s *Server) log(max int) string {
	b, _ := os.ReadFile(s.file("log")) // there may be none yet
	return string(bytes.ToValidUTF8(b[len(b)-min(max, len(b)):], nil))
}

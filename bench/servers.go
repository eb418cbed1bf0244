package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	accessKey = "HERALDBENCH000000001"
	secretKey = "bench-secret-000000000000000000000000001"
)

// server is a gateway that was started for measuring.
type server struct {
	addr, ops, data string
	pid             int
}

func (s *server) client() *client { return newClient(s.addr, accessKey, secretKey) }

// start starts a gateway on a fresh directory, with a bucket "bench".
func (b *bench) start(name string, args ...string) (*server, error) {
	data, err := b.freshDir(name)
	if err != nil {
		return nil, err
	}
	s := &server{addr: freeAddress(), ops: freeAddress(), data: data}
	if b.profile != "" {
		args = append(args, "--pprof")
	}
	cmd := exec.Command(b.gateway, append([]string{"serve", "--data", data, "--listen", s.addr, "--ops", s.ops}, args...)...)
	cmd.Env = append(os.Environ(), "HERALD_ROOT_ACCESS_KEY="+accessKey, "HERALD_ROOT_SECRET_KEY="+secretKey)
	logFile, err := os.Create(data + ".log")
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = cmd.Process.Pid
	b.procs = append(b.procs, cmd)
	if err := waitFor("http://" + s.ops + "/readyz"); err != nil {
		return nil, fmt.Errorf("%s: %w; see %s.log", name, err, data)
	}
	c := s.client()
	defer c.close()
	_, err = c.expect(http.StatusOK, "PUT", "/bench", "", nil)
	return s, err
}

// profiled runs f while the gateway writes a CPU profile, if that is wanted.
func (b *bench) profiled(s *server, name string, f func() (result, error)) (result, error) {
	if b.profile == "" || s.ops == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() { done <- b.fetchProfile(s, name) }()
	r, err := f()
	return r, errors.Join(err, <-done)
}

func (b *bench) fetchProfile(s *server, name string) error {
	resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.ops, max(1, int(b.seconds.Seconds())-1)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := os.Create(filepath.Join(b.profile, name+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, out.Close())
}

// stop ends what was started.
func (b *bench) stop() {
	for _, cmd := range slices.Backward(b.procs) { // servers of queues come before their gateways
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	for _, end := range b.ends {
		end()
	}
	b.procs, b.ends = nil, nil
}

// stopBrokers ends what outlives the gateways.
func (b *bench) stopBrokers() {
	for _, cmd := range b.brokers {
		_ = cmd.Process.Kill() // its files are removed
		_ = cmd.Wait()
	}
	b.brokers = nil
}

// topicName is that of the topic of scenarios that have one.
const topicName = "bench"

// addTopic makes a persistent topic with an endpoint and a notification of the
// bucket "bench" for all creations.
func (s *server) addTopic(endpoint string) error { return s.addTopicTo("bench", endpoint) }

func (s *server) addTopicTo(bucket, endpoint string) error {
	if err := s.putTopic(topicName, endpoint); err != nil {
		return err
	}
	return s.notify(bucket, topicName)
}

// putTopic makes a persistent topic, or gives it another endpoint.
func (s *server) putTopic(name, endpoint string) error {
	form := url.Values{"Action": {"CreateTopic"}, "Name": {name}}
	for i, attr := range [...][2]string{{"push-endpoint", endpoint}, {"persistent", "true"}, {"amqp-exchange", "amq.topic"}} {
		form.Set(fmt.Sprintf("Attributes.entry.%d.key", i+1), attr[0])
		form.Set(fmt.Sprintf("Attributes.entry.%d.value", i+1), attr[1])
	}
	body := []byte(form.Encode())
	sum := sha256.Sum256(body)
	c := s.client()
	defer c.close()
	c.payload = hex.EncodeToString(sum[:]) // radosgw wants that signed
	_, err := c.expect(http.StatusOK, "POST", "/", "", body)
	return err
}

// notify has a topic get all creations of a bucket.
func (s *server) notify(bucket, topic string) error {
	c := s.client()
	defer c.close()
	doc := `<NotificationConfiguration><TopicConfiguration><Id>bench</Id><Topic>arn:aws:sns:default::` + topic + `</Topic>` +
		`<Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>`
	_, err := c.expect(http.StatusOK, "PUT", "/"+bucket, "notification=", []byte(doc))
	return err
}

// nginx serves a directory, as many workers as cores.
func (b *bench) nginx(root string) (*server, error) {
	bin, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errors.New("nginx is not installed (Debian: nginx-light)")
	}
	dir, err := b.freshDir("nginx")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &server{addr: freeAddress()}
	conf := fmt.Sprintf(`daemon off; master_process on; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log;
user root;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen %[2]s; location / { root %[3]s; } } }
`, dir, s.addr, root)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, "-c", file, "-e", filepath.Join(dir, "start.log"))
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.procs = append(b.procs, cmd)
	return s, waitFor("http://" + s.addr + "/")
}

func waitFor(url string) error {
	var err error
	for range 6000 {
		var resp *http.Response
		if resp, err = http.Get(url); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < 500 {
				return nil
			}
			err = errors.New(resp.Status)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("not ready: %w", err)
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

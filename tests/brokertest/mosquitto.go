package brokertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/certtest"
	"herald/tests/gatewaytest"
)

// Mosquitto is a Mosquitto server.
type Mosquitto struct {
	*Process
	Addr string // of MQTT over TCP
	TLS  string // over TLS; empty: not asked for

	t       testing.TB
	dir     string
	program string
}

// MosquittoOptions; the zero value is valid.
type MosquittoOptions struct {
	// Config is more lines of mosquitto.conf, for all ports. Where it says
	// nothing about who may connect, everybody may.
	Config []string
	// CA, when set: there is a port with TLS, with a certificate of this
	// authority. ClientCertificates: clients must show one of it.
	CA                 *certtest.CA
	ClientCertificates bool
}

// StartMosquitto starts one and waits until it takes connections. It keeps its
// sessions and messages over a restart in order.
func StartMosquitto(t testing.TB, opt MosquittoOptions) *Mosquitto {
	t.Helper()
	m := &Mosquitto{t: t, program: program(t, "mosquitto", "/usr/sbin/mosquitto", "mosquitto"), Addr: gatewaytest.FreeAddress(t)}
	dir, err := os.MkdirTemp("", "mosquitto-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m.dir = dir
	host, port, _ := strings.Cut(m.Addr, ":")
	config := append([]string{"log_dest stderr", "log_type all", "persistence true", "persistence_location " + dir + "/", "autosave_interval 1", "autosave_on_changes true"}, opt.Config...)
	if !strings.Contains(strings.Join(opt.Config, "\n"), "allow_anonymous") {
		config = append(config, "allow_anonymous true")
	}
	if os.Geteuid() == 0 {
		config = append(config, "user root") // the directory is ours
	}
	config = append(config, "listener "+port+" "+host)
	if opt.CA != nil {
		m.TLS = gatewaytest.FreeAddress(t)
		cert, key := opt.CA.Issue("mosquitto")
		host, port, _ := strings.Cut(m.TLS, ":")
		config = append(config, "listener "+port+" "+host, "cafile "+opt.CA.File, "certfile "+cert, "keyfile "+key)
		if opt.ClientCertificates {
			config = append(config, "require_certificate true")
		}
	}
	write(t, filepath.Join(dir, "mosquitto.conf"), strings.Join(config, "\n")+"\n")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Mosquitto's log ends with:\n%s", tail(filepath.Join(dir, "output.log")))
		}
	})
	m.Start()
	return m
}

// Dir is the server's directory, for files that its configuration names.
func (m *Mosquitto) Dir() string { return m.dir }

// Start starts the server, again after Kill, and waits until it takes
// connections.
func (m *Mosquitto) Start() {
	m.t.Helper()
	m.Process = run(m.t, filepath.Join(m.dir, "output.log"), os.Environ(), m.program, "-c", filepath.Join(m.dir, "mosquitto.conf"))
	eventually(m.t, "Mosquitto listens", m.Process, func() bool {
		return dialable(m.Addr) && (m.TLS == "" || dialable(m.TLS))
	})
}

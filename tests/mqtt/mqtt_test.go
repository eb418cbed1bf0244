package mqtt

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herald/tests/brokertest"
	"herald/tests/certtest"
	"herald/tests/endpointtest"
)

// TestDelivery: sync and persistent topics, each quality of service.
func TestDelivery(t *testing.T) {
	b := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"max_packet_size 6000"}})
	e := endpointtest.New(t, "--log-level", "debug")
	s := b.Subscribe("#")
	bucket := e.Bucket()
	var arns []string
	for _, qos := range []string{"0", "1", "2"} {
		for _, persistent := range []string{"true", "false"} {
			arn, err := e.CreateTopic("t"+qos+persistent, "mqtt://"+b.Addr+"/a/b", "mqtt-qos", qos, "persistent", persistent)
			if err != nil {
				t.Fatal(err)
			}
			arns = append(arns, arn)
		}
	}
	e.Notify(bucket, append(arns, e.Topic("large", "mqtt://"+b.Addr, "OpaqueData", strings.Repeat("x", 8000)))...)
	e.Put(bucket, "k")
	topics := func() map[string]bool {
		seen := map[string]bool{}
		for _, m := range s.Publishes() {
			seen[m.Topic] = true
		}
		return seen
	}
	e.Eventually("a message of each topic", func() bool { return len(topics()) == 6 })
	if !topics()["a/b/t1true"] {
		t.Errorf("topics = %v", topics())
	}
	for _, m := range s.Publishes() {
		if r := endpointtest.Decode(t, m.Payload); r.EventName != "ObjectCreated:Put" || r.S3.Object.Key != "k" || m.Properties.User.Get("event-id") == "" {
			t.Errorf("message %s %v", m.Payload, m.Properties)
		}
	}
	e.Drained("large") // it will never be taken: a dead letter at once
	if out := e.G.MustAdmin("topic", "dead-letters", "list", "--topic", "large"); !strings.Contains(out, "packet too large") {
		t.Errorf("dead letters = %s", out)
	}
}

// TestFaults: while bad things happen to the broker and on the way there, every
// event gets to who subscribed, at least once and in the order of its key.
func TestFaults(t *testing.T) {
	b := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"max_queued_messages 0"}})
	s := b.Subscribe("#")
	endpointtest.Faults(t, &endpointtest.Broker{
		Addr:  b.Addr,
		Kill:  func() { b.Stop() }, // in order: what it acked is kept, as no Mosquitto does that is killed
		Start: func() { b.Start(); s.Connect() },
		Pause: func() { b.Pause() }, Resume: func() { b.Resume() },
		Endpoint: func(addr string) string { return "mqtt://" + addr },
		Messages: func(_ *testing.T, topic string) [][]byte { return s.Until(topic) },
	})
}

// TestKilled: events wait while the broker is dead, and come when it is back.
func TestKilled(t *testing.T) {
	b := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"max_queued_messages 0"}})
	proxy := brokertest.NewProxy(t, b.Addr)
	e := endpointtest.New(t, endpointtest.Impatient...)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", "mqtt://"+proxy.Addr))
	e.Put(bucket, "first")
	e.Drained("t")
	b.Kill()
	proxy.Refuse() // until somebody subscribes: it forgets subscribers when it is killed
	load := e.StartLoad(bucket, endpointtest.Changes())
	load.Wait()
	if n := e.Entries("t"); n != load.Done() {
		t.Errorf("%d entries wait, want %d", n, load.Done())
	}
	b.Start()
	s := b.Subscribe("t")
	proxy.Restore()
	e.Drained("t")
	load.Check(s.Until("t"))
}

// TestAccess: who gets in, and what is said to those who do not.
func TestAccess(t *testing.T) {
	ca, stranger := certtest.NewCA(t), certtest.NewCA(t)
	dir := t.TempDir()
	passwords, rules := filepath.Join(dir, "passwords"), filepath.Join(dir, "rules")
	for file, text := range map[string]string{passwords: "u:" + hash("secret-of-u") + "\n", rules: "user u\ntopic write ok/#\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{
		CA: ca, ClientCertificates: true, Config: []string{"allow_anonymous false", "password_file " + passwords, "acl_file " + rules},
	})
	cert, key := ca.Issue("client")
	mutual := slices.Clip([]string{"ssl-certificate-location", cert, "ssl-key-location", key})
	e := endpointtest.New(t, "--log-level", "debug", "--allow-notification-secrets-in-cleartext")
	plain, secure := "mqtt://u:secret-of-u@"+b.Addr+"/ok", "mqtts://u:secret-of-u@"+b.TLS+"/ok"
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Delivered("plain", plain),
		endpointtest.Delivered("user-attribute", "mqtt://"+b.Addr+"/ok", "user-name", "u", "password", "secret-of-u"),
		endpointtest.Refused("wrong-password", "the broker says", "mqtt://u:not-the-secret@"+b.Addr+"/ok"),
		endpointtest.Refused("anonymous", "the broker says", "mqtt://"+b.Addr+"/ok"),
		endpointtest.Refused("not-authorized", "not authorized", "mqtt://u:secret-of-u@"+b.Addr+"/other"),
		endpointtest.Delivered("ca", secure, append(mutual, "ca-location", ca.File)...),
		endpointtest.Delivered("no-verify", secure, append(mutual, "verify-ssl", "false")...),
		endpointtest.Refused("system-authorities", "unknown authority", secure, mutual...),
		endpointtest.Refused("other-ca", "unknown authority", secure, append(mutual, "ca-location", stranger.File)...),
		endpointtest.Refused("no-certificate", "mqtt: ", secure, "ca-location", ca.File),
		endpointtest.Refused("bad-qos", "mqtt-qos", plain, "mqtt-qos", "3"),
		endpointtest.Refused("wildcard", "not a topic", plain+"/+"),
	}, "secret-of-", "not-the-secret")
}

// hash is a password as mosquitto_passwd stores it.
func hash(password string) string {
	salt := []byte("0123456789ab")
	key, err := pbkdf2.Key(sha512.New, password, salt, 101, 64)
	if err != nil {
		panic(err) // of its own arguments
	}
	return "$7$101$" + base64.StdEncoding.EncodeToString(salt) + "$" + base64.StdEncoding.EncodeToString(key)
}

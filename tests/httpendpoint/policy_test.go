package httpendpoint

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"herald/tests/certtest"
)

// TestPolicy has what a user that is no administrator may name as an endpoint by
// default, where it is decided, and who sees why.
func TestPolicy(t *testing.T) {
	root := start(t, "--notify.endpoint-allow", "")
	bob := root.user("bob")
	s := newSink(t, "", nil)
	for name, endpoint := range map[string]string{
		"literal": s.URL, "localhost": strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "mapped": "http://[::ffff:127.0.0.1]:80/",
		"metadata": "http://169.254.169.254/latest/meta-data/", "private": "http://10.0.0.1/", "kafka": "kafka://192.168.0.1", "link": "http://[fe80::1]/",
		"secret": "http://127.0.0.1/",
	} {
		status, answer := bob.tryTopic(name, endpoint, "persistent", "true")
		if status != http.StatusBadRequest || !strings.Contains(answer, "<Code>InvalidArgument</Code>") || !strings.Contains(answer, "notify.endpoint_allow") {
			t.Errorf("CreateTopic for %s = %d %s", endpoint, status, answer)
		}
	}
	bob.topic("later", "http://8.8.8.8:9/", "persistent", "true")
	if status, answer := bob.form("SetTopicAttributes", "TopicArn", arn("later"), "AttributeName", "push-endpoint", "AttributeValue", s.URL); status != http.StatusBadRequest || !strings.Contains(answer, "notify.endpoint_allow") {
		t.Errorf("SetTopicAttributes = %d %s", status, answer)
	}
	// An administrator is free, also with a topic of somebody else, whose owner
	// is not free to change it.
	root.topic("roots", s.URL, "persistent", "true")
	root.bucket("roots", "roots")
	root.topic("later", s.URL, "persistent", "true")
	root.bucket("later", "later")
	root.put(t.Context(), "roots", "k1", "x")
	root.put(t.Context(), "later", "k2", "x")
	complete(t, s, 2)
	if status, answer := bob.form("SetTopicAttributes", "TopicArn", arn("later"), "AttributeName", "verify-ssl", "AttributeValue", "false"); status != http.StatusBadRequest {
		t.Errorf("SetTopicAttributes = %d %s", status, answer)
	}
}

// TestPolicy_Name has a name that leads to a denied address: the event waits,
// and readiness and the queue's log say why.
func TestPolicy_Name(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	addrs, err := net.LookupHost(name)
	if err != nil || len(addrs) == 0 {
		t.Skipf("this machine's own name has no address: %v", err)
	}
	for _, a := range addrs {
		if ip := net.ParseIP(a); ip == nil || !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			t.Skipf("this machine's own name has the address %s", a)
		}
	}
	root := start(t, "--notify.endpoint-allow", "", "--topic-retry-sleep", "1s")
	bob := root.user("bob")
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	bob.topic("named", "http://"+name+":"+port+"/", "persistent", "true")
	bob.bucket("named", "named")
	bob.put(t.Context(), "named", "k", "x")
	eventually(t, "readiness says why", func() bool {
		page := root.ops("/readyz")
		return strings.Contains(page, "notify.endpoint_allow") && strings.Contains(page, "named")
	})
	if n := root.entries("named"); n != 1 {
		t.Errorf("%d events wait, want 1", n)
	}
}

// TestPolicy_Files: a user that is no administrator has the gateway read no
// file but those of one directory, and does not learn which others there are.
func TestPolicy_Files(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.NewCA(t)
	s := &sink{t: t}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("server")}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	root := start(t, "--notify.endpoint-files", dir)
	bob := root.user("bob")
	pem, err := os.ReadFile(ca.File)
	if err == nil {
		err = os.WriteFile(dir+"/ca.pem", pem, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, attr := range []string{"ca-location", "ssl-certificate-location", "ssl-key-location", "nats-credentials-location", "nats-nkey-location", "sasl-kerberos-keytab"} {
		var answers []string
		for _, file := range []string{"/etc/passwd", "/etc/nosuchfile", dir + "/../ca.pem", "ca.pem"} {
			status, answer := bob.tryTopic("t", s.URL, attr, file)
			if status != http.StatusBadRequest || !strings.Contains(answer, "notify.endpoint_files") {
				t.Errorf("CreateTopic with %s=%s = %d %s", attr, file, status, answer)
			}
			answers = append(answers, answer[:strings.Index(answer+"<RequestId>", "<RequestId>")])
		}
		if answers[0] != answers[1] {
			t.Errorf("the answers tell whether a file is there: %q", answers[:2])
		}
	}
	bob.topic("t", s.URL, "persistent", "true", "ca-location", dir+"/ca.pem")
	if status, answer := bob.form("SetTopicAttributes", "TopicArn", arn("t"), "AttributeName", "ca-location", "AttributeValue", "/etc/passwd"); status != http.StatusBadRequest {
		t.Errorf("SetTopicAttributes = %d %s", status, answer)
	}
	bob.bucket("files", "t")
	bob.put(t.Context(), "files", "k", "x")
	complete(t, s, 1)
}

package nats

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herald/tests/certtest"
	"herald/tests/endpointtest"
	"herald/tests/natstest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

func TestTLS(t *testing.T) {
	ca, stranger := certtest.NewCA(t), certtest.NewCA(t)
	cert, key := ca.Issue("nats")
	clientCert, clientKey := ca.Issue("client")
	srv := natstest.Start(t, natstest.Options{
		Config:  fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ca.File),
		Connect: []nats.Option{nats.RootCAs(ca.File), nats.ClientCert(clientCert, clientKey)},
	})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"*"}})
	e := endpointtest.New(t, "--log-level", "debug")
	secure := "natss://" + srv.Addr
	mutual := slices.Clip([]string{"ssl-certificate-location", clientCert, "ssl-key-location", clientKey})
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Delivered("ca", secure, append(mutual, "ca-location", ca.File)...),
		endpointtest.Delivered("by-attribute", srv.URL(), append(mutual, "ca-location", ca.File, "use-ssl", "true")...),
		endpointtest.Delivered("by-server", srv.URL(), append(mutual, "ca-location", ca.File)...),
		endpointtest.Delivered("unverified", secure, append(mutual, "verify-ssl", "false")...),
		endpointtest.Refused("unknown", "unknown authority", secure, mutual...),
		endpointtest.Refused("other-ca", "unknown authority", secure, append(mutual, "ca-location", stranger.File)...),
		endpointtest.Refused("anonymous", "connect", secure, "ca-location", ca.File),
	})
}

func TestUsers(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	other, _ := nkeys.CreateUser()
	otherSeed, _ := other.Seed()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	srv := natstest.Start(t, natstest.Options{
		Config:  fmt.Sprintf("authorization { users: [ {user: u, password: sesame}, {nkey: %s} ] }\n", public),
		Connect: []nats.Option{nats.UserInfo("u", "sesame")},
	})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"*"}})
	e := endpointtest.New(t, "--log-level", "debug", "--allow-notification-secrets-in-cleartext")
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Delivered("user", "nats://u:sesame@"+srv.Addr),
		endpointtest.Delivered("attributes", srv.URL(), "user-name", "u", "password", "sesame"),
		endpointtest.Refused("wrong", "Authorization Violation", "nats://u:open-sesame@"+srv.Addr),
		endpointtest.Refused("nobody", "Authorization Violation", srv.URL()),
		endpointtest.Delivered("nkey", srv.URL(), "nats-nkey-location", file("seed", seed)),
		endpointtest.Refused("wrong-nkey", "Authorization Violation", srv.URL(), "nats-nkey-location", file("other", otherSeed)),
		endpointtest.Refused("no-nkey", "nats-nkey-location", srv.URL(), "nats-nkey-location", filepath.Join(dir, "none")),
	}, "sesame", string(seed))
	token := natstest.Start(t, natstest.Options{Config: "authorization { token: sesame }\n", Connect: []nats.Option{nats.Token("sesame")}})
	token.Stream(token.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"*"}})
	e.Outcomes(t, []endpointtest.Case{endpointtest.Delivered("token", "nats://sesame@"+token.Addr)}, "sesame")
}

// TestCredentials: a server whose users have JWTs.
func TestCredentials(t *testing.T) {
	operator, account, user := newKey(t, nkeys.CreateOperator), newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateUser)
	oc := jwt.NewOperatorClaims(operator.public)
	ac := jwt.NewAccountClaims(account.public)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	system := newKey(t, nkeys.CreateAccount)
	oc.SystemAccount = system.public
	sc := jwt.NewAccountClaims(system.public)
	uc := jwt.NewUserClaims(user.public)
	sign := func(c jwt.Claims, by key) string {
		t.Helper()
		token, err := c.Encode(by.pair)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	creds := func(userToken string, of key) string {
		t.Helper()
		text, err := jwt.FormatUserConfig(userToken, of.seed)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "user.creds")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := creds(sign(uc, account), user)
	stranger := newKey(t, nkeys.CreateUser)
	bad := creds(sign(jwt.NewUserClaims(stranger.public), newKey(t, nkeys.CreateAccount)), stranger)
	srv := natstest.Start(t, natstest.Options{
		Config: fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
			sign(oc, operator), system.public, account.public, sign(ac, operator), system.public, sign(sc, operator)),
		Connect: []nats.Option{nats.UserCredentials(good)},
	})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"*"}})
	e := endpointtest.New(t, "--log-level", "debug")
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Delivered("good", srv.URL(), "nats-credentials-location", good),
		endpointtest.Refused("bad", "Authorization Violation", srv.URL(), "nats-credentials-location", bad),
		endpointtest.Refused("none", "Authorization Violation", srv.URL()),
		endpointtest.Refused("no-file", "nats-credentials-location", srv.URL(), "nats-credentials-location", "/nonexistent"),
	})
}

type key struct {
	pair   nkeys.KeyPair
	public string
	seed   []byte
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) key {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	return key{pair, public, seed}
}

// Two topics with equal attributes have one connection, others their own, and
// what no topic uses is closed.
func TestShared(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{Config: natstest.Monitor})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"*"}})
	e := endpointtest.New(t)
	want := func(n int) {
		t.Helper()
		e.Eventually(fmt.Sprintf("%d connections", n), func() bool { return srv.Connections("herald") == n })
	}
	pushed := func(name string, attributes ...string) {
		t.Helper()
		bucket := e.Bucket()
		e.Notify(bucket, e.Topic(name, srv.URL(), attributes...))
		e.Put(bucket, "k")
		e.Drained(name)
	}
	pushed("a")
	pushed("b")
	want(1)
	pushed("c", "nats-inbox-prefix", "_INBOX_c")
	pushed("d", "verify-ssl", "false")
	want(3)
	for _, name := range []string{"c", "d"} {
		e.G.MustAdmin("topic", "rm", "--topic", name)
	}
	want(1)
	e.G.MustAdmin("topic", "rm", "--topic", "a")
	pushed("e")
	want(1)
	e.G.MustAdmin("topic", "rm", "--topic", "b")
	e.G.MustAdmin("topic", "rm", "--topic", "e")
	want(0)
}

func TestAttributes(t *testing.T) {
	e := endpointtest.New(t, "--allow-notification-secrets-in-cleartext")
	for _, attributes := range [][]string{
		{"nats-ack-level", "broker"}, {"nats-subject", "a.*"}, {"nats-subject", "a.>"}, {"nats-subject", "$JS.API.INFO"},
		{"nats-stream", "a.b"}, {"nats-nkey-location", "/a", "nats-credentials-location", "/b"},
	} {
		if _, err := e.CreateTopic("t", "nats://127.0.0.1", attributes...); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
			t.Errorf("CreateTopic with %q: %v, want InvalidArgument", attributes, err)
		}
	}
	if _, err := e.CreateTopic("t", "nats://127.0.0.1:4222/path"); err == nil {
		t.Error("CreateTopic with a path succeeded")
	}
	arn := e.Topic("t", "nats://u:p@127.0.0.1:4222,localhost:4223", "nats-subject", "a.b")
	for value, ok := range map[string]bool{"c.d": true, "c.>": false} {
		_, err := e.SNS.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{
			TopicArn: &arn, AttributeName: aws.String("nats-subject"), AttributeValue: &value,
		})
		if (err == nil) != ok {
			t.Errorf("SetTopicAttributes nats-subject=%s: %v", value, err)
		}
	}
	if got := e.G.MustAdmin("topic", "get", "--topic", "t"); !strings.Contains(got, "nats-subject=c.d") {
		t.Errorf("topic get = %s", got)
	}
}

package kafka

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herald/tests/endpointtest"
	"herald/tests/gatewaytest"
	"herald/tests/kafkatest"
)

// cleartext lets topics with passwords be made over plain HTTP.
const cleartext = "--allow-notification-secrets-in-cleartext"

// The rows test_notification_kafka_security_*: ssl,
// ssl_skip_verification_without_ca, ssl_sasl, ssl_sasl_attrs, sasl,
// ssl_sasl_scram, sasl_scram, sasl_scram_512, ssl_sasl_scram_512; and mTLS.
func TestSecurity(t *testing.T) {
	e := newEnv(t, cleartext)
	k := e.k
	url := func(addr string) string { return "kafka://" + kafkatest.User + ":" + kafkatest.Password + "@" + addr }
	user := []string{"user-name", kafkatest.User, "password", kafkatest.Password}
	tls := []string{"use-ssl", "true", "ca-location", k.Authority}
	scram := func(bits string) []string { return []string{"mechanism", "SCRAM-SHA-" + bits} }
	tests := []struct {
		name, url string
		attrs     [][]string
	}{
		{"ssl", "kafka://" + k.TLS, [][]string{tls}},
		{"ssl-none", "kafka://" + k.TLS, [][]string{tls, {"kafka-ack-level", "none"}}},
		{"ssl-skip-verification-without-ca", "kafka://" + k.TLS, [][]string{{"use-ssl", "true", "verify-ssl", "false"}}},
		{"ssl-sasl", url(k.SASLTLS), [][]string{tls, {"mechanism", "PLAIN"}}},
		{"ssl-sasl-attrs", "kafka://" + k.SASLTLS, [][]string{tls, user}},
		{"sasl", url(k.SASL), nil},
		{"ssl-sasl-scram", url(k.SASLTLS), [][]string{tls, scram("256")}},
		{"sasl-scram", url(k.SASL), [][]string{scram("256")}},
		{"sasl-scram-512", url(k.SASL), [][]string{scram("512")}},
		{"ssl-sasl-scram-512", "kafka://wrong:user@" + k.SASLTLS, [][]string{tls, user, scram("512")}},
		{"mtls", "kafka://" + k.MTLS, [][]string{tls, {"ssl-certificate-location", k.ClientCertificate, "ssl-key-location", k.ClientKey}}},
	}
	t.Run("all", func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) { e.in(t).security(tt.url, tt.attrs) })
		}
	})
	e.Conceals(kafkatest.Password)
}

// security delivers to a topic with those attributes, beside other tests.
func (e *env) security(url string, groups [][]string) {
	e.t.Parallel()
	bucket, topic := e.Bucket(), e.name("t")
	attrs := []string{"persistent", "true"}
	for _, a := range groups {
		attrs = append(attrs, a...)
	}
	e.makeTopic(topic, 2)
	e.Notify(bucket, e.topic(topic, url, attrs...))
	names := keys("key", 10)
	e.putAll(bucket, names)
	e.deleteAll(bucket, names)
	e.consume(topic).wantEach(true, both(names)...)
	e.Drained(topic)
}

// Keys under a password, as OpenSSL writes them.
func TestSecurityEncryptedKey(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		gatewaytest.Missing(t, "openssl")
	}
	e := newEnv(t, cleartext)
	key := filepath.Join(t.TempDir(), "client.key")
	out, err := exec.Command("openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", e.k.ClientKey, "-out", key, "-passout", "pass:"+kafkatest.Password).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	bucket, topic := e.Bucket(), e.name("t")
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.MTLS, "persistent", "true", "use-ssl", "true", "ca-location", e.k.Authority,
		"ssl-certificate-location", e.k.ClientCertificate, "ssl-key-location", key, "ssl-key-password", kafkatest.Password))
	e.Put(bucket, "k")
	e.consume(topic).wantEach(true, "ObjectCreated:Put k")
	e.Conceals(kafkatest.Password)
}

// What is refused is kept, and nobody is told a secret.
func TestSecurityRefused(t *testing.T) {
	e := newEnv(t, cleartext, "--http-message-timeout", "5s", "--log-level", "debug")
	k := e.k
	empty := filepath.Join(t.TempDir(), "empty.crt")
	e.check(os.WriteFile(empty, nil, 0o600))
	wrong := "kafka://" + kafkatest.User + ":wrong-" + kafkatest.Password + "@" + k.SASL
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Refused("ssl-without-ca", "certificate signed by unknown authority", "kafka://"+k.TLS, "use-ssl", "true"),
		endpointtest.Refused("empty-ca", "ca-location", "kafka://"+k.TLS, "use-ssl", "true", "ca-location", empty),
		endpointtest.Refused("mtls-without-certificate", "cannot connect to Kafka", "kafka://"+k.MTLS, "use-ssl", "true", "ca-location", k.Authority),
		endpointtest.Refused("password", "refused the user name or the password", wrong),
		endpointtest.Refused("scram-password", "refused the user name or the password", wrong, "mechanism", "SCRAM-SHA-512"),
		endpointtest.Refused("mechanism", "ROT13", wrong, "mechanism", "ROT13"),
		endpointtest.Refused("gssapi", "GSSAPI is not supported", "kafka://"+k.SASL, "mechanism", "GSSAPI"),
		endpointtest.Refused("no-sasl", "the broker did not acknowledge in time", "kafka://"+k.SASL),
		endpointtest.Refused("no-tls", "cannot connect to Kafka", "kafka://"+k.TLS),
	}, kafkatest.Password)
}

// OAUTHBEARER: the token comes from a token endpoint, by client_credentials.
func TestSecurityOAuthBearer(t *testing.T) {
	e := newEnv(t, cleartext)
	var asked atomic.Int32
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "herald" || secret != kafkatest.Password || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			http.Error(w, "wrong client "+secret, http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": unsecuredToken(), "token_type": "Bearer", "expires_in": 3600})
	}))
	defer endpoint.Close()
	attrs := func(secret string) []string {
		return []string{
			"persistent", "true", "use-ssl", "true", "ca-location", e.k.Authority, "mechanism", "OAUTHBEARER", "max_retries", "1",
			"sasl-oauthbearer-token-endpoint-url", endpoint.URL + "/token", "sasl-oauthbearer-client-id", "herald",
			"sasl-oauthbearer-client-secret", secret, "sasl-oauthbearer-scope", "kafka",
		}
	}
	bucket, good, bad := e.Bucket(), e.name("good"), e.name("bad")
	e.Notify(bucket, e.topic(good, "kafka://"+e.k.SASLTLS, attrs(kafkatest.Password)...), e.topic(bad, "kafka://"+e.k.SASLTLS, attrs("not-"+kafkatest.Password)...))
	e.Put(bucket, "k")
	e.consume(good).wantEach(true, "ObjectCreated:Put k")
	e.Drained(bad)
	if letters := e.deadLetters(bad); len(letters) != 1 || !strings.Contains(letters[0].LastError, "the token endpoint answered 401") {
		t.Errorf("dead letters %+v", letters)
	}
	if asked.Load() < 2 {
		t.Errorf("the token endpoint was asked %d times", asked.Load())
	}
	e.Conceals(kafkatest.Password)
}

// unsecuredToken is a JSON web token as brokers in development take it.
func unsecuredToken() string {
	now := time.Now().Unix()
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":"herald","iat":%d,"exp":%d}`, now, now+3600)) + "."
}

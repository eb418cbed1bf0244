package endpointtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Case is a topic, and what becomes of its events: see Delivered and Refused.
type Case struct {
	name, endpoint string
	attributes     []string
	want           string // in what is said of each push that fails; empty: none does
}

// Delivered is a topic whose events are delivered; attributes are names and
// values.
func Delivered(topic, endpoint string, attributes ...string) Case {
	return Case{topic, endpoint, attributes, ""}
}

// Refused is a topic whose events wait, and the log says why.
func Refused(topic, why, endpoint string, attributes ...string) Case {
	return Case{topic, endpoint, attributes, why}
}

// Outcomes has an event for a topic of each case: it is delivered, or waits while
// the log says why. A test event has the same outcome. None of the secrets is
// shown anywhere. The gateway must log at level debug.
func (e *Env) Outcomes(t *testing.T, cases []Case, secrets ...string) {
	t.Helper()
	bucket := e.Bucket()
	var arns []string
	for _, c := range cases {
		arns = append(arns, e.Topic(c.name, c.endpoint, c.attributes...))
	}
	e.Notify(bucket, arns...)
	e.Put(bucket, "k")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := e.In(t)
			e.tested(c)
			if c.want == "" {
				e.Drained(c.name)
				return
			}
			e.LoggedOf(c.name, c.want)
			if n := e.Entries(c.name); n != 1 {
				t.Errorf("%d events wait, want 1", n)
			}
		})
	}
	e.Conceals(secrets...)
}

// tested sends a topic test events, until one has the outcome that is wanted: on a
// slow machine another one may have lasted too long.
func (e *Env) tested(c Case) {
	e.t.Helper()
	var last string
	defer func() {
		if e.t.Failed() {
			e.t.Logf("a test event: %s", last)
		}
	}()
	e.Eventually("a test event has the outcome of others", func() bool {
		last, _ = e.G.Admin("notification", "test", "--topic", c.name) // fails where the event does
		var doc struct {
			Results []struct{ Status, Error string }
		}
		if err := json.Unmarshal([]byte(last[:strings.LastIndex(last, "}")+1]), &doc); err != nil || len(doc.Results) != 1 {
			e.t.Fatalf("notification test = %s: %v", last, err)
		}
		r := doc.Results[0]
		if c.want == "" {
			return r.Status == "acked"
		}
		return r.Status != "acked" && strings.Contains(r.Error, c.want)
	})
}

// LoggedOf waits until the gateway has logged a text in a line about a topic.
func (e *Env) LoggedOf(topic, text string) {
	e.t.Helper()
	of := regexp.MustCompile(`:` + regexp.QuoteMeta(topic) + `([^-\w]|$)`)
	e.Eventually(fmt.Sprintf("the log says of %s: %s", topic, text), func() bool {
		for line := range strings.Lines(e.G.Log(1 << 21)) {
			if strings.Contains(line, text) && of.MatchString(line) {
				return true
			}
		}
		return false
	})
}

// Conceals fails the test if the gateway shows a secret: in its log, or to its
// administrator.
func (e *Env) Conceals(secrets ...string) {
	e.t.Helper()
	for what, text := range map[string]string{"the log": e.G.Log(1 << 21), "topic list": e.G.MustAdmin("topic", "list")} {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				e.t.Errorf("%s shows the secret %q: ...%s", what, secret, text[max(0, i-200):i])
			}
		}
	}
}

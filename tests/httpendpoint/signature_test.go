package httpendpoint

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"herald/tests/gatewaytest"
)

// snippet is the first block of a language in the documentation.
func snippet(t testing.TB, language string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/endpoints/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```"+language+"\n")
	code, _, _ := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("no %s in the documentation", language)
	}
	return code
}

// TestSignature has the documentation's own code verify what arrives: while keys
// are changed, by whichever of the two the endpoint knows.
func TestSignature(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		gatewaytest.Missing(t, "python3")
	}
	code := snippet(t, "python") + `
import sys
ok = verify(sys.argv[1], sys.stdin.buffer.read(), {sys.argv[2]: sys.argv[3]})
print("signed" if ok else "refused")
`
	c := start(t, "--allow-notification-secrets-in-cleartext")
	s := newSink(t, "", nil)
	c.topic("signed", s.URL, "persistent", "true", "http-signing-keys", "2026b:new-secret-0123456789,2026a:old-secret-0123456789")
	c.bucket("signed", "signed")
	c.put(t.Context(), "signed", "key", "x")
	complete(t, s, 1)
	got := s.all()[0]
	verify := func(field, body, id, secret string) string {
		cmd := exec.Command(python, "-c", code, field, id, secret)
		cmd.Stdin = strings.NewReader(body)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return strings.TrimSpace(out.String())
	}
	field := got.header.Get("Herald-Signature")
	for _, v := range []struct{ field, body, id, secret, want string }{
		{field, got.body, "2026a", "old-secret-0123456789", "signed"},
		{field, got.body, "2026b", "new-secret-0123456789", "signed"},
		{field, got.body, "2026b", "old-secret-0123456789", "refused"},
		{field, got.body, "2025", "old-secret-0123456789", "refused"},
		{field, got.body + " ", "2026a", "old-secret-0123456789", "refused"},
		{strings.Replace(field, "t=1", "t=2", 1), got.body, "2026a", "old-secret-0123456789", "refused"},
		{"", got.body, "2026a", "old-secret-0123456789", "refused"},
	} {
		if out := verify(v.field, v.body, v.id, v.secret); out != v.want {
			t.Errorf("%s with the secret of %s: %s, want %s", v.field, v.id, out, v.want)
		}
	}
	if id := got.header.Get("Idempotency-Key"); len(id) != 32 {
		t.Errorf("Idempotency-Key is %q", id)
	}
}

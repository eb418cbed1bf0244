// Package s3compat runs the clients that people use, with their default
// settings, against the built gateway.
package s3compat

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/gatewaytest"
)

// random returns bytes that are the same for the same seed.
func random(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// tool is a command-line client.
type tool struct {
	t   *testing.T
	bin string
	env []string
	pre []string // arguments before all others
}

// newTool finds a client. Debian's is preferred to others in the path.
func newTool(t *testing.T, name string, env ...string) *tool {
	t.Helper()
	bin := "/usr/bin/" + name
	if _, err := os.Stat(bin); err != nil {
		if bin, err = exec.LookPath(name); err != nil {
			gatewaytest.Missing(t, name)
		}
	}
	return &tool{t: t, bin: bin, env: append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, env...)}
}

func (c *tool) try(args ...string) (string, error) {
	cmd := exec.Command(c.bin, append(append([]string{}, c.pre...), args...)...)
	cmd.Env = c.env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if err != nil {
		return out.String() + errOut.String(), err
	}
	return out.String(), nil
}

func (c *tool) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", filepath.Base(c.bin), strings.Join(args, " "), err, out)
	}
	return out
}

// files are what every tool uploads: an empty one, a small one, one of several
// parts, and one in a directory with an awkward name.
type files struct {
	dir   string
	small string
	big   string
}

func newFiles(t *testing.T) *files {
	t.Helper()
	f := &files{dir: t.TempDir()}
	write := func(name string, body []byte) string {
		path := filepath.Join(f.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.small = write("small.txt", random(1, 5000))
	f.big = write("big.bin", random(2, 40<<20))
	write("tree/empty", nil)
	write("tree/ä b+c/%20&=?.txt", random(3, 100))
	write("tree/sub/x", random(4, 100))
	return f
}

func sameFile(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s has %d bytes with MD5 %s, want %d with %s", got, len(a), md5Hex(a), len(b), md5Hex(b))
	}
}

func sameTree(t *testing.T, got, want string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", got, want).CombinedOutput(); err != nil {
		t.Errorf("diff -r: %v\n%s", err, out)
	}
}

func wantContains(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

// get fetches a presigned URL.
func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET presigned = %s\n%s", resp.Status, body.String())
	}
	return body.Bytes()
}

package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// rule says what a package may import.
type rule struct {
	pkg   string   // directory below the module's root; "x/..." means x and below
	ours  []string // packages of ours; nil: none
	never []string // others that are forbidden, and what is below them
}

// The rule of imports (docs/architecture.md): contracts at the bottom, drivers
// beside them, policy above, wiring on top; no arrow points up, siblings do
// not see each other. Tests may import the suites and what they test.
var rules = []rule{
	{pkg: "store", never: []string{"net/http", "encoding/xml", "github.com/cockroachdb/pebble"}},
	{pkg: "queue", never: []string{"net/http", "encoding/xml"}},
	{pkg: "journal", never: []string{"net/http", "encoding/xml"}},
	{pkg: "rados", never: []string{"net/http", "encoding/xml"}},
	{pkg: "store/storetest", ours: []string{"store"}, never: []string{"net/http"}},
	{pkg: "queue/queuetest", ours: []string{"queue"}, never: []string{"net/http"}},
	{pkg: "queue/locktest", ours: []string{"queue", "queue/queuetest"}, never: []string{"net/http"}},
	{pkg: "store/posix", ours: []string{"store", "journal"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "queue/embedded", ours: []string{"queue", "journal"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "queue/outbox", ours: []string{"queue"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "queue/redis", ours: []string{"queue"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "rados", never: []string{"net/http", "encoding/xml"}},
	{pkg: "store/rados", ours: []string{"store", "rados"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "queue/rados", ours: []string{"queue", "rados"}, never: []string{"net/http", "encoding/xml"}},
	{pkg: "auth", ours: []string{"store"}},
	{pkg: "notify", ours: []string{"store", "queue"}, never: []string{"encoding/xml"}},
	{pkg: "lifecycle", ours: []string{"store", "queue", "notify"}},
	{pkg: "s3api", ours: []string{"store", "notify", "auth", "lifecycle"}},
	{pkg: "admin", ours: []string{"store", "queue", "notify", "auth", "lifecycle"}},
	{pkg: "cmd/gateway", ours: []string{"..."}},
	{pkg: "tests/...", ours: []string{"tests/..."}},
	{pkg: "bench/...", ours: []string{"bench/..."}},
}

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "herald-data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		r := ruleOf(filepath.ToSlash(rel))
		if r == nil {
			t.Errorf("%s: no rule for package %s: add one", path, rel)
			return nil
		}
		seen[r.pkg] = true
		checkFile(t, path, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if _, err := os.Stat(filepath.Join(root, strings.TrimSuffix(r.pkg, "/..."))); err != nil {
			t.Errorf("rule for %s, which does not exist", r.pkg)
		}
	}
}

func ruleOf(pkg string) *rule {
	for i := range rules {
		if covers(rules[i].pkg, pkg) {
			return &rules[i]
		}
	}
	return nil
}

func covers(pattern, pkg string) bool {
	base, below := strings.CutSuffix(pattern, "...")
	if !below {
		return pattern == pkg
	}
	return base == "" || pkg == strings.TrimSuffix(base, "/") || strings.HasPrefix(pkg, base)
}

func checkFile(t *testing.T, path string, r *rule) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Base(path)
		if name == "net/http" && r.pkg == "notify" && !strings.HasPrefix(file, "push_http") && file != "push_kafkatoken.go" {
			t.Errorf("%s imports net/http; in notify only push_http*.go may, and what asks for OAuth tokens", path)
		}
		if ours, ok := strings.CutPrefix(name, "herald/"); ok {
			allowed := false
			for _, p := range r.ours {
				allowed = allowed || covers(p, ours)
			}
			if !allowed {
				t.Errorf("%s imports %s; %s may import of ours only %v", path, name, r.pkg, r.ours)
			}
		}
		for _, n := range r.never {
			if name == n || strings.HasPrefix(name, n+"/") {
				t.Errorf("%s imports %s; %s never may", path, name, r.pkg)
			}
		}
	}
}
